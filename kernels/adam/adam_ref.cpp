#include <cmath>

#include "kernels/adam/adam.h"

namespace ito::kernels::ref {

template <CpuFloat T>
void adam(const Context&, const Adam<T>& args) {
    const AdamStep& step = *args.step;
    if (std::isnan(step.grad_scale)) return;  // the gradient is not finite
    const T beta1 = static_cast<T>(args.beta1), beta2 = static_cast<T>(args.beta2);
    const T rest1 = static_cast<T>(1 - args.beta1), rest2 = static_cast<T>(1 - args.beta2);
    const T lr = static_cast<T>(step.lr), eps = static_cast<T>(args.eps);
    const T correction1 = static_cast<T>(step.correction1), correction2 = static_cast<T>(step.correction2);
    const T decay = static_cast<T>(args.weight_decay), ema_rest = static_cast<T>(1 - step.ema_decay);
    for (std::int64_t i = 0; i < args.count; ++i) {
        T p = args.param[i];
        T g = static_cast<T>(step.grad_scale) * args.grad[i];
        if (args.decoupled) {
            p -= lr * decay * p;
        } else {
            g += decay * p;
        }
        const T m = beta1 * args.m[i] + rest1 * g;
        const T v = beta2 * args.v[i] + rest2 * g * g;
        p -= lr * (m / correction1) / (std::sqrt(v / correction2) + eps);
        args.m[i] = m;
        args.v[i] = v;
        args.param[i] = p;
        if (args.ema) args.ema[i] = step.ema_decay == 0 ? p : args.ema[i] + ema_rest * (p - args.ema[i]);
        if (args.copy) args.copy[i] = bfloat16(static_cast<float>(p));
    }
}

ITO_FOR_CPU_TYPES(adam, Adam);

}  // namespace ito::kernels::ref
