#pragma once
// The peak of a device, measured. A training step's share of it tells how much is left to gain.

#include "core/precision.h"

namespace ito::apps {

/// FLOP/s of a large matrix product in these types, by cuBLASLt if it can be loaded.
double product_flops_per_second(const Computation& computation);

}  // namespace ito::apps
