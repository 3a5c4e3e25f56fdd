#pragma once
// What runs, for those who want to know: `ito train --trace` and `ito inspect`. Phases of a step, ops, their backwards
// and kernels are nested spans; each op also says what it made and what it keeps for backward. A Listener hears it on
// the thread that set it. Without one a span costs one load and one branch.

#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace ito::trace {

/// What a span covers, from the outside inwards. `kernel` is a call of a launcher; on CUDA that is the time the host
/// needs for it.
enum class Kind : std::uint8_t { phase, op, backward, kernel };
/// "phase", "op", "backward" or "kernel".
const char* name_of(Kind kind);

/// Does nothing with what it hears; derive from it. It must not keep tensors alive that the step wants to free.
class Listener {
  public:
    Listener() = default;
    virtual ~Listener() = default;
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    /// A span begins inside those that have not ended. `shape`: of the gradient that a backward starts from, else null.
    virtual void begin(Kind, const char* /*name*/, const Shape* /*shape*/) {}
    /// The latest span that has begun ends.
    virtual void end() {}
    /// A differentiable op is done. Undefined inputs are optional ones that were not given.
    virtual void made(const char* /*op*/, const Tensor& /*output*/, std::span<const Tensor> /*inputs*/) {}
    /// The op that is running keeps `tensor` for its backward; made() follows.
    virtual void saved(const Tensor& /*tensor*/) {}
};

/// Of this thread; null where nobody listens.
inline constinit thread_local Listener* listener = nullptr;

/// Makes `to` the listener of this thread for as long as it lives.
class Listen {
  public:
    explicit Listen(Listener& to) : before_(listener) { listener = &to; }
    ~Listen() { listener = before_; }
    Listen(const Listen&) = delete;
    Listen& operator=(const Listen&) = delete;

  private:
    Listener* before_;
};

/// A span from here to the end of the scope.
class Span {
  public:
    Span(Kind kind, const char* name, const Shape* shape = nullptr) : kind_(kind), listener_(listener) {
        if (listener_) listener_->begin(kind_, name, shape);
    }
    ~Span() {
        if (listener_) listener_->end();
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

    /// Ends here, and another of the same kind begins.
    void next(const char* name) {
        if (!listener_) return;
        listener_->end();
        listener_->begin(kind_, name, nullptr);
    }

  private:
    Kind kind_;
    Listener* listener_;
};

}  // namespace ito::trace
