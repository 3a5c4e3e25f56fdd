#pragma once
// Whether ops are recorded for backward, on this thread.

#include <utility>

namespace ito::autograd {

namespace detail {
inline constinit thread_local bool grad_enabled = true;
}

inline bool grad_enabled() {
    return detail::grad_enabled;
}

/// Switches recording on or off until the end of the scope.
template <bool on>
class GradMode {
  public:
    GradMode() : before_(std::exchange(detail::grad_enabled, on)) {}
    ~GradMode() { detail::grad_enabled = before_; }
    GradMode(const GradMode&) = delete;
    GradMode& operator=(const GradMode&) = delete;

  private:
    bool before_;
};
using NoGrad = GradMode<false>;
using EnableGrad = GradMode<true>;  ///< for the recomputation inside a checkpoint's backward

}  // namespace ito::autograd
