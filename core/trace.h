#pragma once
// What runs, for the timelines of `ito train` and for `ito inspect`. Phases of a step, layers, ops, their backward passes and kernels are
// nested spans, reported to the Listener of the thread. Without a listener a span costs one load and one branch. An
// OpListener also learns what each op makes and saves (core/autograd/op_listener.h).

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/common/work_listener.h"

namespace ito::trace {

/// What a span covers, from the outside inwards. A layer may contain layers. A kernel's span is the call of its launcher: on
/// CUDA that is the time of the host.
enum class Kind : std::uint8_t { phase, layer, op, backward, kernel };
inline const char* name_of(Kind kind) {
    constexpr const char* names[] = {"phase", "layer", "op", "backward", "kernel"};
    return names[static_cast<std::size_t>(kind)];
}

/// Hears of spans, and ignores them: derive from it. worked() is called on other threads.
class Listener : public kernels::WorkListener {
  public:
    /// A span begins inside those that have not ended. `shape` is that of the gradient which a backward pass gets, else null.
    virtual void begin(Kind, const char* /*name*/, const std::vector<std::int64_t>* /*shape*/) {}
    /// The innermost span ends.
    virtual void end() {}
};

/// The listener of this thread, or null.
inline constinit thread_local Listener* listener = nullptr;

/// Makes `to` the listener of this thread until the end of the scope.
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

/// The name of the part of a network that is running on this thread; null or empty if it has none.
inline constinit thread_local const std::string* layer = nullptr;

/// Names that part until the end of the scope: for the listener (as a span), the recorded graph and the errors of anomaly
/// mode. The name must live as long. Costs two stores when tracing is off.
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
    Span(Kind kind, const char* name, const std::vector<std::int64_t>* shape = nullptr)
        : kind_(kind), listener_(listener) {
        if (listener_) listener_->begin(kind_, name, shape);
    }
    ~Span() {
        if (listener_) listener_->end();
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

    /// Ends this span and begins another of the same kind.
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
