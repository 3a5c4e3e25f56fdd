// For a build without CUDA.

#include "apps/kernel_bench/options.h"
#include "core/error.h"

namespace ito::apps::kernel_bench {

int run(const Options&) {
    fail(
        "bench kernels: this build has no CUDA kernels; build with cmake --preset cuda. The CPU's are timed "
        "by "
        "tools/bench (ito_bench_kernels of the preset dev)");
}

}  // namespace ito::apps::kernel_bench
