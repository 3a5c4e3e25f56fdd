#pragma once
// In which types a network computes.

#include <string>

#include "core/device.h"
#include "kernels/common/dtype.h"

namespace ito {

/// float32 throughout; tf32: the same, but matrix products and convolutions may round their factors to TF32 (10 bits of the
/// fraction); bfloat16: mixed precision, activations and the weights that kernels read in bfloat16, everything that is
/// summed up (master weights, gradients of weights, moments, statistics, losses) in float32.
enum class Precision { float32, tf32, bfloat16 };

const char* name_of(Precision precision);
/// "auto", "float32", "tf32" or "bfloat16" on a device. auto: bfloat16 on GPUs of compute capability 8.0 and later, else
/// float32. Throws Error for anything else, and for what the device cannot do: the CPU computes in float32.
Precision parse_precision(const std::string& text, const Device& device);

/// Where a network computes, and in which types.
struct Computation {
    Device device = Device::cpu();
    Precision precision = Precision::float32;

    /// Of activations, and of the weights that kernels read.
    DType type() const { return precision == Precision::bfloat16 ? DType::bfloat16 : DType::float32; }
};

}  // namespace ito
