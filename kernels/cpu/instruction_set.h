#pragma once
// Which of the instruction sets that the CPU kernels are compiled for is in use on this processor. The environment can lower
// it, for tests of what other processors would compute: ITO_CPU=avx2, or ITO_CPU=portable for what every x86-64 has. oneDNN
// is limited with it, to AVX2 or SSE4.1.

#include <string>
#include <vector>

namespace ito::kernels {

/// The one that every CPU kernel runs with, by Highway's name: "AVX3" (which is AVX-512), "AVX2", "SCALAR".
std::string instruction_set();

/// All that this build has, the best first.
std::vector<std::string> compiled_instruction_sets();

/// Follows ITO_CPU. Every program that links a kernel has called it before main(); from then on it changes nothing. Returns
/// what ITO_CPU asks for if that is no known set, otherwise "".
const std::string& limit_instruction_set();

}  // namespace ito::kernels
