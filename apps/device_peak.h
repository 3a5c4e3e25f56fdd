#pragma once
// What a device can do at best, measured: the share of it that a training step uses tells how much is left.

#include "core/precision.h"

namespace ito::apps {

/// Floating-point operations a second of a large matrix product in these types (cuBLASLt's, where it can be loaded).
double product_flops_per_second(const Computation& computation);

}  // namespace ito::apps
