#include "kernels/step_metrics/step_metrics.h"

namespace ito::kernels::cpu {

void step_losses(const Context& context, const StepLosses& a) {
    ref::step_losses(context, a);
}

void step_end(const Context& context, const StepEnd& a) {
    ref::step_end(context, a);
}

}  // namespace ito::kernels::cpu
