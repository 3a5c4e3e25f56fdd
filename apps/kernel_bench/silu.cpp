#include "kernels/silu/silu.h"

#include <fmt/format.h>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
void add(std::vector<Case>& cases, const Model& model) {
    const std::int64_t rows = model.image.batch, columns = model.time_channels, count = rows * columns;
    const std::string shape = fmt::format("{}x{}", rows, columns);
    Case c = describe<T>("silu_forward", model, shape, count, 2 * sizeof(T), cuda::silu_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const T* x = memory.normal<T>(count);
        const SiluForward<T> a{{x, rows, columns, columns},
                               {memory.output<T>(count), rows, columns, columns}};
        return ITO_BENCH(memory, silu_forward, a);
    };
    cases.push_back(c);
    c = describe<T>("silu_backward", model, shape, count, 3 * sizeof(T), cuda::silu_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const T *x = memory.normal<T>(count), *dy = memory.normal<T>(count);
        const auto view = [=](auto* data) { return View{data, rows, columns, columns}; };
        const SiluBackward<T> a{view(x), view(dy), view(memory.output<T>(count))};
        return ITO_BENCH(memory, silu_backward, a);
    };
    cases.push_back(c);
}

// Before the time embedding's second layer, and before each block's projection of it.
const Registration registration("silu", [](std::vector<Case>& cases, const Model& model) {
    add<float>(cases, model), add<bfloat16>(cases, model);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
