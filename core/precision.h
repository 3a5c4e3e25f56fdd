#pragma once
// The types that a network computes in.

#include <string>

#include "core/device.h"
#include "kernels/common/dtype.h"

namespace ito {

/// float32: everything is float32. tf32: the same, but matrix products and convolutions may round their factors to TF32, which
/// has 10 bits of fraction. bfloat16: mixed precision. Activations and the weights that kernels read are bfloat16; master
/// weights, gradients of weights, moments, statistics and losses are float32.
enum class Precision { float32, tf32, bfloat16 };

const char* name_of(Precision precision);
/// From "auto", "float32", "tf32" or "bfloat16"; auto is bfloat16 on GPUs of compute capability 8.0 and later, else float32.
/// Throws Error for anything else, and for what the device cannot do: the CPU computes in float32.
Precision parse_precision(const std::string& text, const Device& device);

/// The device that a network computes on, and the types.
struct Computation {
    Device device = Device::cpu();
    Precision precision = Precision::float32;

    /// The type of activations, and of the weights that kernels read.
    DType type() const { return precision == Precision::bfloat16 ? DType::bfloat16 : DType::float32; }
};

}  // namespace ito
