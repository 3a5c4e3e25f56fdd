#pragma once
// Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) with the moving average of the weights, one
// launch over the flat parameter buffer:
//
//   g    = grad_scale * grad                 (+ weight_decay * p unless decoupled)
//   m    = beta1 * m + (1 - beta1) * g
//   v    = beta2 * v + (1 - beta2) * g^2
//   p   -= lr * weight_decay * p             (if decoupled)
//   p   -= lr * (m / correction1) / (sqrt(v / correction2) + eps)
//   ema += (1 - ema_decay) * (p - ema)       (optional)
//   copy = bfloat16(p)                       (optional)
//
// correction_i = 1 - beta_i^step. The floor: 28 bytes a parameter for p, grad, m, v; 36 with the EMA, 38 with
// the bfloat16 copy.

#include <cstdint>

#include "kernels/runtime/context.h"
#include "kernels/runtime/dtype.h"

namespace ito::kernels {

/// What changes from step to step, read through a pointer when the kernel runs.
struct AdamStep {
    double lr = 1e-3;
    double correction1 = 1, correction2 = 1;  ///< 1 - beta^step, step counted from 1
    double grad_scale = 1;                    ///< clip factor
    double ema_decay = 0;                     ///< 0: the average is a copy
};

template <class T>
struct Adam {
    std::int64_t count = 0;
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
    bool decoupled = false;
    const AdamStep* step = nullptr;
    T* param = nullptr;
    const T* grad = nullptr;
    T* m = nullptr;
    T* v = nullptr;
    T* ema = nullptr;          ///< may be null
    bfloat16* copy = nullptr;  ///< may be null
};

/// Plain loops: the oracle. T = float or double.
namespace ref {
template <class T>
void adam(const Context&, const Adam<T>&);
}

namespace cpu {
void adam(const Context&, const Adam<float>&);
void adam(const Context&, const Adam<double>&);
}  // namespace cpu

}  // namespace ito::kernels
