#pragma once
// From a device and a dtype to a kernel. The only header that knows which back ends this build has.

#include <type_traits>
#include <utility>

#include "core/device.h"
#include "core/error.h"
#include "core/trace.h"
#include "kernels/common/dtype.h"

namespace ito {

#if ITO_CUDA
inline constexpr bool built_with_cuda = true;
#else
inline constexpr bool built_with_cuda = false;
#endif

namespace detail {

/// Calls a launcher in a span of its own.
template <class Call, class... Arguments>
void traced(const char* launcher, Call call, Arguments&&... arguments) {
    const trace::Span span(trace::Kind::kernel, launcher);
    call(std::forward<Arguments>(arguments)...);
}

/// Calls `cpu` or `cuda` with the arguments, whichever runs on the device. Not every type has a kernel on every device:
/// the dispatch functions below refuse those before anything is launched.
template <class Cpu, class Cuda, class... Arguments>
void launch_on(const Device& device, const char* launcher, Cpu cpu, Cuda cuda, Arguments&&... arguments) {
    constexpr bool on_cpu = std::is_invocable_v<Cpu, Arguments...>;
    constexpr bool on_cuda = built_with_cuda && std::is_invocable_v<Cuda, Arguments...>;
    if constexpr (on_cuda) {
        if (device.is_cuda()) return traced(launcher, cuda, std::forward<Arguments>(arguments)...);
    }
    if constexpr (on_cpu) {
        if (device.is_cpu()) return traced(launcher, cpu, std::forward<Arguments>(arguments)...);
    }
    fail("{}: there is no kernel for these types on {}", launcher, to_string(device));
}

}  // namespace detail

/// Calls kernels::<back end of `device`>::launcher(arguments...).
#if ITO_CUDA
#define ITO_LAUNCH(device, launcher, ...)                                                        \
    ::ito::detail::launch_on((device), #launcher,                                                \
                             [](auto&&... a) -> decltype(::ito::kernels::cpu::launcher(a...)) {  \
                                 return ::ito::kernels::cpu::launcher(a...);                     \
                             },                                                                  \
                             [](auto&&... a) -> decltype(::ito::kernels::cuda::launcher(a...)) { \
                                 return ::ito::kernels::cuda::launcher(a...);                    \
                             },                                                                  \
                             __VA_ARGS__)
#else
#define ITO_LAUNCH(device, launcher, ...)                                                       \
    ::ito::detail::launch_on((device), #launcher,                                               \
                             [](auto&&... a) -> decltype(::ito::kernels::cpu::launcher(a...)) { \
                                 return ::ito::kernels::cpu::launcher(a...);                    \
                             },                                                                 \
                             nullptr, __VA_ARGS__)
#endif

namespace detail {
[[noreturn]] inline void refuse_type(const char* op, const Device& device, DType type) {
    fail("{}: computes in {} on {}, its input is {}; convert it with to()", op,
         device.is_cpu() ? "float32 or float64" : "float32 or bfloat16", to_string(device), name_of(type));
}
}  // namespace detail

/// Calls body.template operator()<T>() with T = float, double (CPU only) or bfloat16 (CUDA only), whichever `type` is:
/// the types that the kernels of a network compute in.
template <class Body>
decltype(auto) dispatch_float(const char* op, const Device& device, DType type, Body&& body) {
    if (type == DType::float32) return body.template operator()<float>();
    if (type == DType::float64 && device.is_cpu()) return body.template operator()<double>();
    if constexpr (built_with_cuda) {
        if (type == DType::bfloat16 && device.is_cuda()) return body.template operator()<bfloat16>();
    }
    detail::refuse_type(op, device, type);
}

/// T = float or double: for ops that have no bfloat16 on any device, and those that run on the CPU alone.
template <class Body>
decltype(auto) dispatch_cpu_float(const char* op, DType type, Body&& body) {
    if (type == DType::float32) return body.template operator()<float>();
    if (type == DType::float64) return body.template operator()<double>();
    detail::refuse_type(op, Device::cpu(), type);
}

/// T = float, double (CPU only) or bfloat16, for the ops that take bfloat16 on every device (see core/README.md).
template <class Body>
decltype(auto) dispatch_floating(const char* op, const Device& device, DType type, Body&& body) {
    if (type == DType::bfloat16) return body.template operator()<bfloat16>();
    return dispatch_float(op, device, type, std::forward<Body>(body));
}

}  // namespace ito
