#pragma once
// `ito bench kernels`, as bench.cpp defines it on the command line.

#include <cstdint>
#include <string>

namespace ito::apps::kernel_bench {

struct Options {
    std::string filter;           ///< measured are the cases with this in their name; empty: all
    std::string device = "cuda";  ///< cuda or cuda:N
    std::int64_t repeats = 20;
    bool json = false;
};

/// Returns the exit status. A build without CUDA has stub.cpp's, which throws.
int run(const Options&);

}  // namespace ito::apps::kernel_bench
