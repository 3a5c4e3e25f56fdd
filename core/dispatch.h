#pragma once
// From a device and a dtype to a kernel. The only header that knows which back ends this build has.

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

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

/// Calls `cuda`, `cpu` or `ref` with the arguments: what there is for their types on the device. Where the CPU has no kernel of
/// its own (float64), the oracle is its kernel.
template <class Cuda, class Cpu, class Ref, class... Arguments>
void launch_on(const Device& device, const char* launcher, Cuda cuda, Cpu cpu, Ref ref,
               Arguments&&... arguments) {
    if constexpr (std::is_invocable_v<Cuda, Arguments...>) {
        if (device.is_cuda()) return traced(launcher, cuda, std::forward<Arguments>(arguments)...);
    }
    if constexpr (std::is_invocable_v<Cpu, Arguments...>) {
        if (device.is_cpu()) return traced(launcher, cpu, std::forward<Arguments>(arguments)...);
    } else if constexpr (std::is_invocable_v<Ref, Arguments...>) {
        if (device.is_cpu()) return traced(launcher, ref, std::forward<Arguments>(arguments)...);
    }
    fail("{}: there is no kernel for these types on {}", launcher, to_string(device));
}

}  // namespace detail

#define ITO_OF(back_end, launcher)                                          \
    [](auto&&... a) -> decltype(::ito::kernels::back_end::launcher(a...)) { \
        return ::ito::kernels::back_end::launcher(a...);                    \
    }
#if ITO_CUDA
#define ITO_OF_CUDA(launcher) ITO_OF(cuda, launcher)
#else
#define ITO_OF_CUDA(launcher) nullptr
#endif

/// Calls kernels::<back end of `device`>::launcher(arguments...).
#define ITO_LAUNCH(device, launcher, ...)                                                       \
    ::ito::detail::launch_on((device), #launcher, ITO_OF_CUDA(launcher), ITO_OF(cpu, launcher), \
                             ITO_OF(ref, launcher), __VA_ARGS__)

/// The types that an op computes in on a device.
template <class... T>
struct OnCpu {};
template <class... T>
struct OnCuda {};

namespace detail {

/// Calls the body with the first of the types that `type` names; false if there is none.
template <class Body, class... T>
bool call_with([[maybe_unused]] DType type, [[maybe_unused]] Body& body) {
    return ((type == ito::dtype_of<T> && (body.template operator()<T>(), true)) || ...);
}

template <class... CpuTypes, class... CudaTypes, class Body>
void dispatch(OnCpu<CpuTypes...>, OnCuda<CudaTypes...>, const char* op, const Device& device, DType type,
              Body& body) {
    if (device.is_cpu() && call_with<Body, CpuTypes...>(type, body)) return;
    if constexpr (built_with_cuda)
        if (device.is_cuda() && call_with<Body, CudaTypes...>(type, body)) return;
    std::string names;
    for (const DType t : device.is_cpu() ? std::vector<DType>{ito::dtype_of<CpuTypes>...}
                                         : std::vector<DType>{ito::dtype_of<CudaTypes>...})
        names += (names.empty() ? "" : " or ") + std::string(name_of(t));
    fail("{}: computes in {} on {}, its input is {}; convert it with to()", op, names, to_string(device),
         name_of(type));
}

}  // namespace detail

/// Calls body.template operator()<T>() for the type T that `type` names, if it is among those of the device:
///     dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>("silu", x.device(), x.dtype(), [&]<class T>() { ... });
template <class CpuTypes, class CudaTypes = OnCuda<>, class Body>
void dispatch(const char* op, const Device& device, DType type, Body&& body) {
    detail::dispatch(CpuTypes(), CudaTypes(), op, device, type, body);
}

}  // namespace ito
