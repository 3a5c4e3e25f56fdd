// Reverse-mode differentiation. The forward pass recorded a graph: one Node per op, with edges to the nodes that made its
// inputs. backward() walks it from the result to the leaves (parameters):
//
//   1. discover() finds every node that the result depends on, and counts its consumers.
//   2. A node is ready when its count is zero: the gradient of its output is complete. process() calls its backward, which
//      writes the gradients of its inputs into slots. The first slot that reaches a tensor overwrites, later ones
//      accumulate.
//   3. What the node saved is released, and the counts of the nodes below it fall by one.
//
// Nothing recurses, so that the depth of a network is not limited by the stack.

#include "core/autograd/engine.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "core/autograd/node.h"
#include "core/trace.h"

namespace ito::autograd {

class Engine {
  public:
    void run(const Tensor& root, const Tensor& gradient, std::uint64_t checkpointed_after) {
        const auto start = node_of(root);
        discover(start, checkpointed_after);
        states_.at(start.get()).target.gradient = {gradient, false};
        ready_.push_back(start);
        while (!ready_.empty()) {
            // The most recently recorded op first: the same order every time, and the one that frees most.
            const auto latest =
                std::max_element(ready_.begin(), ready_.end(),
                                 [](const auto& a, const auto& b) { return a->sequence() < b->sequence(); });
            const auto node = *latest;
            ready_.erase(latest);
            process(*node);
        }
    }

  private:
    struct State {
        GradientSlot::Target target;
        int dependencies = 0;
    };

    /// Finds every node below `start` and counts how many consumers each waits for.
    void discover(const std::shared_ptr<Node>& start, std::uint64_t checkpointed_after) {
        std::vector<Node*> stack{start.get()};
        add(*start);
        while (!stack.empty()) {
            Node* node = stack.back();
            stack.pop_back();
            require(
                !node->released_,
                "backward: the graph was already consumed at {} (what it saved is released after the first "
                "backward); run the forward pass again",
                node->name());
            require(node->sequence() > checkpointed_after,
                    "checkpoint: its function uses a tensor of shape {} made by {} outside of it; make it "
                    "one of the "
                    "inputs",
                    node->shape(), node->name());
            for (const auto& edge : node->edges_) {
                if (!edge.node) continue;
                if (add(*edge.node)) stack.push_back(edge.node.get());
                ++states_.at(edge.node.get()).dependencies;
            }
        }
    }

    bool add(Node& node) {
        const auto [state, added] = states_.try_emplace(&node);
        if (added) {
            auto& target = state->second.target;
            target.shape = node.shape_;
            target.dtype = node.dtype_;
            target.device = node.device_;
        }
        return added;
    }

    void process(Node& node) {
        auto& state = states_.at(&node);
        Gradient gradient = std::move(state.target.gradient);
        state.target.gradient = {};
        // There is no gradient if every consumer ignored this input. Then the nodes below get none from here.
        if (gradient.value) {
            std::vector<GradientSlot> slots;
            slots.reserve(node.edges_.size());
            for (const auto& edge : node.edges_) {
                if (edge.node)
                    slots.emplace_back(&states_.at(edge.node.get()).target);
                else if (edge.leaf)
                    slots.emplace_back(edge.leaf);
                else
                    slots.emplace_back();
            }
            const trace::Layer layer(node.layer_);
            const trace::Span span(trace::Kind::backward, node.name(), &node.shape_);
            node.backward(std::move(gradient), slots);
            if (anomaly_mode()) {
                for (std::size_t i = 0; i < slots.size(); ++i)
                    if (slots[i].accumulates())
                        check_anomaly(node.name(), fmt::format("gradient of input {}", i), slots[i].buffer());
            }
        }
        node.release();
        node.released_ = true;
        for (const auto& edge : node.edges_) {
            if (edge.node && --states_.at(edge.node.get()).dependencies == 0) ready_.push_back(edge.node);
        }
    }

    std::unordered_map<Node*, State> states_;
    std::vector<std::shared_ptr<Node>> ready_;
};

void backward(const Tensor& root, const Tensor& gradient, std::uint64_t checkpointed_after) {
    require(root.requires_grad(),
            "backward: no input of this tensor requires a gradient (or it was made under no-grad)");
    Tensor seed = gradient;
    if (!seed) {
        require(root.numel() == 1,
                "backward: the tensor has shape {}; only one element can be differentiated without "
                "a gradient to start from",
                root.shape());
        seed = Tensor::full(root.shape(), 1, root.dtype(), root.device());
    }
    require(seed.shape() == root.shape() && seed.dtype() == root.dtype(),
            "backward: gradient is {} {}, tensor {} {}", name_of(seed.dtype()), seed.shape(),
            name_of(root.dtype()), root.shape());
    const NoGrad no_grad;
    if (root.is_leaf()) {
        GradientSlot(root.handle()).give({seed, false});
        return;
    }
    Engine().run(root, seed, checkpointed_after);
}

}  // namespace ito::autograd
