#pragma once
// How much memory a backward pass needs, from the ops of the forward pass alone.

#include <cstddef>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor.h"

namespace ito::apps {

/// Simulates the engine (core/autograd/engine.cpp): the ops run in reverse order. Each allocates the gradients of its inputs that
/// no later op has allocated, then frees its output's gradient and what it saved.
class BackwardMemory {
  public:
    /// An op has run. `saved_bytes`: kept by it and by no op before it.
    void add(std::string_view op, const Tensor& output, std::span<const Tensor> inputs,
             std::size_t saved_bytes);

    /// The backward of an op has run, with so much scratch memory for its kernels. The last op comes first.
    void ran(std::size_t scratch_bytes) { scratch_.push_back(scratch_bytes); }

    /// The most that saved tensors, gradients and kernels' scratch memory take together.
    std::size_t peak() const;

  private:
    struct Input {
        std::size_t maker;  ///< index of the op that made it
        bool handed_on;     ///< its gradient is the output's, or lies in it
    };
    struct Op {
        std::size_t output_bytes = 0, saved_bytes = 0;
        bool has_backward = false;
        std::vector<Input> inputs;
    };

    std::vector<Op> ops_;
    std::vector<std::size_t> scratch_;  ///< of ops that have a backward, from the last on
    std::unordered_map<const GradFn*, std::size_t> makers_;
};

}  // namespace ito::apps
