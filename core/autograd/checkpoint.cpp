#include "core/autograd/checkpoint.h"

#include <optional>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/random.h"

namespace ito::autograd {
namespace {

struct CheckpointNode final : Node {
    CheckpointFunction fn;
    std::vector<Saved> saved;
    std::optional<RandomStream> stream;

    const char* name() const override { return "Checkpoint"; }

    void backward(Gradient gradient, std::span<GradientSlot> inputs) override {
        std::vector<Tensor> leaves;
        for (std::size_t i = 0; i < saved.size(); ++i) {
            Tensor leaf = saved[i].get(name());
            if (leaf) leaf = leaf.detach();
            if (inputs[i].wanted())
                leaf.impl().requires_grad = true;  // not requires_grad_(), which refuses bfloat16
            leaves.push_back(leaf);
        }
        Tensor output;
        const std::uint64_t before = nodes_recorded();
        {
            const EnableGrad recording;
            std::optional<RandomScope> scope;
            if (stream) scope.emplace(*stream);
            output = fn(leaves);
        }
        require(output.shape() == shape(),
                "checkpoint: the function returned shape {} at first and {} when run again", shape(),
                output.shape());
        if (!output.requires_grad()) return;
        autograd::backward(output, gradient.value, before);
        for (std::size_t i = 0; i < leaves.size(); ++i) {
            if (leaves[i].requires_grad() && leaves[i].grad()) inputs[i].give({leaves[i].grad(), true});
        }
    }

    void release() override {
        fn = nullptr;
        saved.clear();
    }
};

}  // namespace

Tensor checkpoint(CheckpointFunction fn, const std::vector<Tensor>& inputs) {
    Tensor output;
    {
        const NoGrad no_grad;
        output = fn(inputs);
    }
    if (!grad_enabled()) return output;
    // Recorded even if no input needs a gradient, because the parameters inside fn do. detach() makes a new handle: if fn
    // returns an input, that input must keep its own place in the graph.
    output = output.detach();
    auto node = std::make_shared<CheckpointNode>();
    node->fn = std::move(fn);
    for (const auto& input : inputs) node->saved.emplace_back(input);
    if (const auto* stream = RandomScope::current()) node->stream = *stream;
    attach(node, output, std::span(inputs));
    return output;
}

}  // namespace ito::autograd
