#pragma once
// What was built, and with what: ito --version and ito doctor.

#include <string>

namespace ito::apps {

/// "ito 0.1.0 (24f0a20)", in brackets what git calls the sources, if they were a checkout.
std::string version_line();

/// "Release by GCC 12.2.0; CUDA off, ...".
std::string build_line();

/// "AVX-512, of AVX-512, AVX2, portable": the one chosen on this processor, and what there was to choose from.
std::string instruction_set_line();

/// "oneDNN 2.6.3, ...": those loaded, where a library tells, else those compiled against.
std::string libraries_line();

/// All of it: what a report of a bug needs.
std::string version_text();

}  // namespace ito::apps
