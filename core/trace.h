#pragma once
// What runs, for those who want to know: `ito train` and `ito inspect`. Phases of a step, layers, ops, their
// backwards and kernels are nested spans; each op also says what it made and what it keeps for backward. A Listener hears
// it on the thread that set it. Without one a span costs one load and one branch.

#include <cstdint>
#include <span>
#include <string>

#include "core/tensor.h"
#include "kernels/common/work_listener.h"

namespace ito::trace {

/// What a span covers, from the outside inwards. A `layer` may hold further ones. `kernel` is a call of a launcher; on CUDA
/// that is the time the host needs for it.
enum class Kind : std::uint8_t { phase, layer, op, backward, kernel };
/// "phase", "layer", "op", "backward" or "kernel".
const char* name_of(Kind kind);

/// Does nothing with what it hears; derive from it. It must not keep tensors alive that the step wants to free. worked()
/// is called on other threads.
class Listener : public kernels::WorkListener {
  public:
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
    explicit Listen(Listener& to) : before_(listener) { set(&to); }
    ~Listen() { set(before_); }
    Listen(const Listen&) = delete;
    Listen& operator=(const Listen&) = delete;

  private:
    static void set(Listener* to) {
        listener = to;
        kernels::work_listener = to;
    }

    Listener* before_;
};

/// The part of a network that is running on this thread, by its name there; null or empty where nobody has said.
inline constinit thread_local const std::string* layer = nullptr;

/// Names that part for as long as it lives: to a listener (as a span), in the recorded graph, and in what anomaly mode
/// finds. The name must live as long. Where nobody wants to know that is two stores.
class [[nodiscard]] Layer {
  public:
    explicit Layer(const std::string& name) : before_(layer), listener_(name.empty() ? nullptr : listener) {
        layer = &name;
        if (listener_) listener_->begin(Kind::layer, name.c_str(), nullptr);
    }
    ~Layer() {
        if (listener_) listener_->end();
        layer = before_;
    }
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

  private:
    const std::string* before_;
    Listener* listener_;
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
