#include "apps/backward_memory.h"

#include <algorithm>

namespace ito::apps {
namespace {

/// Whether an op gives its output's gradient to this input instead of computing one: the residual of conv2d and linear
/// is their fourth input.
bool hands_on(std::string_view op, std::size_t input) {
    return op == "reshape" || op == "concat" || ((op == "conv2d" || op == "linear") && input == 3);
}

}  // namespace

void BackwardMemory::add(std::string_view op, const Tensor& output, std::span<const Tensor> inputs,
                         std::size_t saved_bytes) {
    Op added{.output_bytes = static_cast<std::size_t>(output.numel()) * size_of(output.dtype()),
             .saved_bytes = saved_bytes,
             .has_backward = !output.is_leaf(),
             .inputs = {}};
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (!inputs[i]) continue;
        const auto maker = makers_.find(inputs[i].impl().grad_fn.get());
        if (maker != makers_.end()) added.inputs.push_back({maker->second, hands_on(op, i)});
    }
    if (!output.is_leaf()) makers_[output.impl().grad_fn.get()] = ops_.size();
    ops_.push_back(std::move(added));
}

std::size_t BackwardMemory::peak() const {
    /// Memory that holds the gradients of one op's output, or of several that hand it on.
    struct Buffer {
        std::size_t bytes = 0;
        int users = 0;
    };
    constexpr std::size_t none = ~std::size_t{0};
    std::vector<Buffer> buffers;
    std::vector<std::size_t> buffer_of(ops_.size(), none);
    // If some ops needed no gradient and did not run, it is unknown which ran: assume the largest for all.
    const auto backwards =
        std::count_if(ops_.begin(), ops_.end(), [](const Op& op) { return op.has_backward; });
    const bool each = static_cast<std::size_t>(backwards) == scratch_.size();
    const std::size_t most = scratch_.empty() ? 0 : *std::max_element(scratch_.begin(), scratch_.end());
    auto next = scratch_.begin();
    std::size_t live = 0, peak = 0;
    for (const Op& op : ops_) live += op.saved_bytes;
    for (std::size_t i = ops_.size(); i-- > 0;) {
        const Op& op = ops_[i];
        for (const Input& input : op.inputs) {
            if (buffer_of[input.maker] != none) continue;  // a later op allocated it; this one adds to it
            if (!input.handed_on || buffer_of[i] == none) {
                buffer_of[input.maker] = buffers.size();
                buffers.push_back({ops_[input.maker].output_bytes, 0});
                live += buffers.back().bytes;
            } else {
                buffer_of[input.maker] = buffer_of[i];
            }
            ++buffers[buffer_of[input.maker]].users;
        }
        if (op.has_backward) peak = std::max(peak, live + (each ? *next++ : most));
        live -= op.saved_bytes;
        if (buffer_of[i] != none && --buffers[buffer_of[i]].users == 0) live -= buffers[buffer_of[i]].bytes;
    }
    return peak;
}

}  // namespace ito::apps
