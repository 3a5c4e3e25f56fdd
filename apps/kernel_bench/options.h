#pragma once
// `ito bench kernels`, as bench.cpp defines it on the command line.

#include <cstdint>
#include <string>

namespace ito::apps::kernel_bench {

struct Options {
    std::string filter;           ///< measured are the cases with this in their name; empty: all
    std::string device = "auto";  ///< auto, cpu, cuda or cuda:N
    int threads = 0;              ///< of the CPU, 0: all
    std::int64_t repeats = 10;
    bool json = false;
};

/// Returns the exit status.
int run(const Options&);

}  // namespace ito::apps::kernel_bench
