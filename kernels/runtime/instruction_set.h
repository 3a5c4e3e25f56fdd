#pragma once
// Which of the instruction sets that the CPU kernels are compiled for is in use on this processor.

#include <string>
#include <vector>

namespace ito::kernels {

/// The one that every CPU kernel runs with, by Highway's name: "AVX3" (which is AVX-512), "AVX2", "SCALAR".
std::string instruction_set();

/// All that this build has, the best first.
std::vector<std::string> compiled_instruction_sets();

}  // namespace ito::kernels
