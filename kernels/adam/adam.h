#pragma once
// Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) with the moving average of the weights, in one launch over the
// flat parameter buffer:
//
//   g    = grad_scale * grad                 (+ weight_decay * p unless decoupled)
//   m    = beta1 * m + (1 - beta1) * g
//   v    = beta2 * v + (1 - beta2) * g^2
//   p   -= lr * weight_decay * p             (if decoupled)
//   p   -= lr * (m / correction1) / (sqrt(v / correction2) + eps)
//   ema += (1 - ema_decay) * (p - ema)       (optional)
//   copy = bfloat16(p)                       (optional)
//
// correction_i = 1 - beta_i^step. Minimum traffic: 28 bytes a parameter for p, grad, m, v; 36 with the EMA, 38 with the
// bfloat16 copy. CUDA's fused variant moves no more than these and 40 bytes of AdamStep for each 1024 parameters, 16 bytes
// a thread and access (8 of the copy).
//
// clip_by_norm writes the clip factor of a gradient into AdamStep. It reads the sum of squares on the device that computed it:
//
//   norm             = sqrt(sum_squares)
//   step->grad_scale = max_norm / norm if max_norm > 0 and norm > max_norm, else 1
//
// A norm that is not finite makes the factor NaN. A step whose grad_scale is NaN changes nothing: parameters, moments and
// average keep their values, and the device need not ask the host.

#include <cstdint>
#include <limits>

#include "kernels/common/context.h"
#include "kernels/common/dtype.h"
#include "kernels/common/value_pointer.h"
#include "kernels/common/variant.h"

namespace ito::kernels {

/// What changes from step to step, read through a pointer when the kernel runs.
struct AdamStep {
    double lr = 1e-3;
    double correction1 = 1, correction2 = 1;  ///< 1 - beta^step, step counted from 1
    double grad_scale = 1;                    ///< clip factor; NaN: the step changes nothing
    double ema_decay = 0;                     ///< 0: the average is a copy
};

template <class T>
struct Adam {
    std::int64_t count = 0;
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
    bool decoupled = false;
    ValuePointer<const AdamStep> step{};
    T* param = nullptr;
    const T* grad = nullptr;
    T* m = nullptr;
    T* v = nullptr;
    T* ema = nullptr;          ///< may be null
    bfloat16* copy = nullptr;  ///< may be null
};

/// The factor that brings a gradient of norm `norm` down to `max_norm`; 1 if it is within, or if max_norm is 0 (no
/// clipping); NaN, which skips the step, for a norm that is not finite.
constexpr double clip_factor(double norm, double max_norm) {
    if (!(norm <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::quiet_NaN();
    return max_norm > 0 && norm > max_norm ? max_norm / norm : 1;
}

/// step->grad_scale = clip_factor(sqrt(*sum_squares), max_norm), whatever it was.
struct ClipByNorm {
    const double* sum_squares = nullptr;
    double max_norm = 0;
    ValuePointer<AdamStep> step{};
    double* norm = nullptr;  ///< may be null
};

/// Plain loops: the oracle.
namespace ref {
template <CpuFloat T>
void adam(const Context&, const Adam<T>&);
}

namespace cpu {
void adam(const Context&, const Adam<float>&);
void clip_by_norm(const Context&, const ClipByNorm&);
}  // namespace cpu

namespace ref {
using cpu::clip_by_norm;  // a line of scalar arithmetic, the same everywhere
}

/// Float32 parameters. Naive: a launch for each line of the formula. Fused: one launch; needs every array on 16 bytes (the
/// copy on 8). Both give the same bits.
namespace cuda {
inline constexpr Variant adam_variants[] = {Variant::naive, Variant::fused};
void adam(const Context&, const Adam<float>&, Variant = Variant::best);
void clip_by_norm(const Context&, const ClipByNorm&);
}  // namespace cuda

}  // namespace ito::kernels
