#pragma once
// How this program was built, for ito --version and ito doctor.

#include <string>

namespace ito::apps {

/// "ito 0.1.0 (24f0a20)": in brackets git's name of the sources, if they were a checkout.
std::string version_line();

/// "Release by GCC 12.2.0; CUDA off, ...".
std::string build_line();

/// "AVX-512, of AVX-512, AVX2, portable": the one chosen on this processor, and all that were built.
std::string instruction_set_line();

/// "oneDNN 2.6.3, ...": the loaded version if the library tells it, else the one compiled against.
std::string libraries_line();

/// All of it, for a bug report.
std::string version_text();

}  // namespace ito::apps
