#pragma once
// How much memory a backward pass needs, from the ops of the forward pass alone.

#include <cstddef>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor.h"

namespace ito::apps {

/// Plays the engine (core/autograd/engine.cpp) through: ops in the opposite order, each allocating the gradients of its
/// inputs that no later op has made already, and then letting go of its output's gradient and of what it saved.
class BackwardMemory {
  public:
    /// An op has run. `saved_bytes`: kept by it and by no op before it.
    void add(std::string_view op, const Tensor& output, std::span<const Tensor> inputs,
             std::size_t saved_bytes);

    /// The backward of an op has run, one after another from the last op on: the scratch memory that its kernels had.
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
