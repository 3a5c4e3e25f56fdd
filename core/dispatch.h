#pragma once
// From a device and a dtype to a kernel. The only header that knows which back ends this build has.

#include "core/device.h"
#include "core/error.h"
#include "kernels/runtime/dtype.h"

/// Calls kernels::<back end of `device`>::launcher(arguments...).
#if ITO_CUDA
#define ITO_LAUNCH(device, launcher, ...)                             \
    ((device).is_cuda() ? ::ito::kernels::cuda::launcher(__VA_ARGS__) \
                        : ::ito::kernels::cpu::launcher(__VA_ARGS__))
#else
#define ITO_LAUNCH(device, launcher, ...) ::ito::kernels::cpu::launcher(__VA_ARGS__)
#endif

namespace ito {

#if ITO_CUDA
inline constexpr bool built_with_cuda = true;
/// Usable CUDA devices; 0 without a driver.
int cuda_device_count();
#else
inline constexpr bool built_with_cuda = false;
constexpr int cuda_device_count() {
    return 0;
}
#endif

/// Calls body.template operator()<T>() with T = float or double, whichever `type` is.
template <class Body>
decltype(auto) dispatch_float(const char* op, DType type, Body&& body) {
    switch (type) {
        case DType::float32:
            return body.template operator()<float>();
        case DType::float64:
            return body.template operator()<double>();
        default:
            fail("{}: computes in float32 or float64, its input is {}; convert it with to()", op,
                 name_of(type));
    }
}

/// The same with bfloat16, for the ops that take it (see the table in core/README.md).
template <class Body>
decltype(auto) dispatch_floating(const char* op, DType type, Body&& body) {
    if (type == DType::bfloat16) return body.template operator()<bfloat16>();
    return dispatch_float(op, type, std::forward<Body>(body));
}

}  // namespace ito
