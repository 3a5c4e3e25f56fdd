#include "kernels/elementwise/elementwise.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
View<T> row(T* data, std::int64_t count) {
    return {data, 1, count, count};
}

template <class T>
void arithmetic(std::vector<Case>& cases, const Model& model, const Layer& layer) {
    const std::int64_t count = layer.elements();
    Case c = describe<T>("axpby", model, layer.shape(), count, 3 * sizeof(T), cuda::elementwise_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const T *a = memory.normal<T>(count), *b = memory.normal<T>(count);
        const Axpby<T> args{
            0.5, 2, nullptr, row(a, count), row(b, count), row(memory.output<T>(count), count)};
        return ITO_BENCH(memory, axpby, args);
    };
    cases.push_back(c);
    c = describe<T>("multiply", model, layer.shape(), count, 3 * sizeof(T), cuda::elementwise_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const T *a = memory.normal<T>(count), *b = memory.normal<T>(count);
        const Multiply<T> args{row(a, count), row(b, count), row(memory.output<T>(count), count)};
        return ITO_BENCH(memory, multiply, args);
    };
    cases.push_back(c);
    c = describe<T>("fill", model, layer.shape(), count, sizeof(T), cuda::elementwise_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const Fill args{{memory.output<T>(count), dtype_of<T>, 1, count, count}};
        return ITO_BENCH(memory, fill, args);
    };
    cases.push_back(c);
    // Into a slice of a concatenated activation.
    c = describe<T>("copy_to_slice", model, layer.shape(), count, 2 * sizeof(T), cuda::elementwise_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const std::int64_t rows = layer.batch * layer.pixels(), columns = layer.channels;
        const T* x = memory.normal<T>(count);
        const Copy args{{x, dtype_of<T>, rows, columns, columns},
                        {memory.output<T>(2 * count), dtype_of<T>, rows, columns, 2 * columns}};
        return ITO_BENCH(memory, copy, args);
    };
    cases.push_back(c);
}

void conversion(std::vector<Case>& cases, const Model& model, const Layer& layer) {
    const std::int64_t count = layer.elements();
    Case c = describe<float>("copy_to_bfloat16", model, layer.shape(), count,
                             sizeof(float) + sizeof(bfloat16), cuda::elementwise_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const float* x = memory.normal<float>(count);
        const Copy args = copy_of(x, count, memory.output<bfloat16>(count));
        return ITO_BENCH(memory, copy, args);
    };
    cases.push_back(c);
}

const Registration registration("elementwise", [](std::vector<Case>& cases, const Model& model) {
    arithmetic<float>(cases, model, model.layers.front());
    arithmetic<bfloat16>(cases, model, model.layers.front());
    conversion(cases, model, model.layers.front());
});

}  // namespace
}  // namespace ito::apps::kernel_bench
