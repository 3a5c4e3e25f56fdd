#pragma once
// Fills with random numbers at Philox coordinates; the kernels' contract is kernels/random/random.h.

#include "core/tensor.h"
#include "kernels/philox/philox.h"

namespace ito::ops {

/// Fills x [N, ...] in place; sample n of the address is x[n].
void fill_normal(Tensor& x, const kernels::PhiloxAddress& address, double mean = 0, double stddev = 1);
void fill_uniform(Tensor& x, const kernels::PhiloxAddress& address, double low = 0, double high = 1);
/// int64, uniform in [0, bound).
void fill_integers(Tensor& x, const kernels::PhiloxAddress& address, std::int64_t bound);

}  // namespace ito::ops
