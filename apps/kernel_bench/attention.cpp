#include "kernels/attention/attention.h"

#include <fmt/format.h>

#include <cmath>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

template <class T>
View<T> rows_of(T* data, const Layer& layer, std::int64_t stride) {
    return {data, layer.batch * layer.pixels(), layer.channels, stride};
}

/// What the heads of a layer read, over a dense projection.
template <class T>
AttentionForward<T> forward_args(Buffers& memory, const Layer& layer, std::int64_t heads) {
    AttentionForward<T> a;
    a.shape = {layer.batch, layer.pixels(), heads, layer.channels / heads};
    a.scale = 1 / std::sqrt(static_cast<double>(a.shape.head_dim));
    a.q = a.k = a.v = rows_of<const T>(memory.normal<T>(3 * layer.elements()), layer, 3 * layer.channels);
    if (a.q) a.k.data += layer.channels, a.v.data += 2 * layer.channels;
    a.o = rows_of(memory.output<T>(layer.elements()), layer, layer.channels);
    a.lse = memory.output<float>(layer.batch * heads * layer.pixels());
    return a;
}

template <class T>
void add(std::vector<Case>& cases, const Model& model, const Layer& layer, std::int64_t heads = 1) {
    const std::string shape = fmt::format("{}x{}x{}{}", layer.batch, layer.pixels(), layer.channels,
                                          heads > 1 ? fmt::format("+{}heads", heads) : "");
    const double product = 2.0 * static_cast<double>(layer.elements() * layer.pixels());
    Case c = describe<T>("attention_forward", model, shape, layer.elements(), 4 * sizeof(T),
                         cuda::attention_variants);
    c.operations = 2 * product;
    c.prepare = [=](Buffers& memory) -> Launch {
        const AttentionForward<T> a = forward_args<T>(memory, layer, heads);
        return ITO_BENCH(memory, attention_forward, a);
    };
    cases.push_back(c);
    c = describe<T>("attention_backward", model, shape, layer.elements(), 8 * sizeof(T),
                    cuda::attention_variants);
    c.operations = 5 * product;
    c.prepare = [=](Buffers& memory) -> Launch {
        const AttentionForward<T> f = forward_args<T>(memory, layer, heads);
        AttentionBackward<T> a;
        a.shape = f.shape, a.scale = f.scale;
        a.q = f.q, a.k = f.k, a.v = f.v;
        a.o = rows_of<const T>(memory.normal<T>(layer.elements()), layer, layer.channels);
        a.lse = memory.positive<float>(layer.batch * heads * layer.pixels());
        a.grad_o = rows_of<const T>(memory.normal<T>(layer.elements()), layer, layer.channels);
        a.grad_q = a.grad_k = a.grad_v =
            rows_of(memory.output<T>(3 * layer.elements()), layer, 3 * layer.channels);
        if (a.grad_q) a.grad_k.data += layer.channels, a.grad_v.data += 2 * layer.channels;
        return ITO_BENCH(memory, attention_backward, a);
    };
    cases.push_back(c);
}

// The models attend at 14 x 14 and 16 x 16; their smallest layers stand for the middle block. More tokens and heads than
// theirs: one image of 32 x 32.
const Registration registration("attention", [](std::vector<Case>& cases, const Model& model) {
    for (const Layer& layer : model.layers)
        if (layer.side <= 16) add<float>(cases, model, layer), add<bfloat16>(cases, model, layer);
    if (model.name != "cifar10") return;
    const Layer large{1, model.reduced ? 8 : 32, 256};
    add<float>(cases, model, large, 4), add<bfloat16>(cases, model, large, 4);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
