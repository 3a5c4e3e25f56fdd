#pragma once
// Fills parameters before training.

#include <cstdint>

#include "nn/module.h"

namespace ito::nn {

/// Fills every parameter of `module` as its Init says, from Philox draws at (seed, init, position of the parameter): the same
/// seed gives the same network, whatever was drawn before. fan_in and fan_out of a convolution weight [Cout, kh, kw, Cin] are
/// Cin*kh*kw and Cout*kh*kw. Each part of a fused parameter is filled on its own.
void initialize(Module& module, std::uint64_t seed);

}  // namespace ito::nn
