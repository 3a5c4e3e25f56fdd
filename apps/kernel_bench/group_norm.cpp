#include "kernels/group_norm/group_norm.h"

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

constexpr std::int64_t groups = 32;

/// In a residual block: the second of its two has the time embedding added before and dropout after it.
template <class T>
GroupNormForward<T> forward_args(Buffers& memory, const Layer& layer, bool second) {
    GroupNormForward<T> a;
    a.shape = {layer.batch, layer.pixels(), layer.channels, groups};
    const auto rows = [&](auto* data, std::int64_t count) {
        return View{data, count, layer.channels, layer.channels};
    };
    a.x = rows(memory.normal<T>(layer.elements()), layer.batch * layer.pixels());
    a.gamma = memory.positive<float>(layer.channels);
    a.beta = memory.normal<float>(layer.channels);
    if (second) a.shift = rows(memory.normal<T>(layer.batch * layer.channels), layer.batch);
    a.dropout = second ? 0.1f : 0;
    a.mask = {.seed = 1, .purpose = Purpose::dropout};
    a.silu = true;
    a.y = rows(memory.output<T>(layer.elements()), layer.batch * layer.pixels());
    a.mean = memory.normal<float>(layer.batch * groups);
    a.rstd = memory.positive<float>(layer.batch * groups);
    return a;
}

template <class T>
void add(std::vector<Case>& cases, const Model& model, const Layer& layer, bool second) {
    const std::string shape = layer.shape() + (second ? "+t+drop" : "");
    Case c = describe<T>("group_norm_forward", model, shape, layer.elements(), 2 * sizeof(T),
                         cuda::group_norm_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const GroupNormForward<T> a = forward_args<T>(memory, layer, second);
        return ITO_BENCH(memory, group_norm_forward, a);
    };
    cases.push_back(c);
    c = describe<T>("group_norm_backward", model, shape, layer.elements(), 3 * sizeof(T),
                    cuda::group_norm_variants);
    c.prepare = [=](Buffers& memory) -> Launch {
        const GroupNormForward<T> f = forward_args<T>(memory, layer, second);
        GroupNormBackward<T> a;
        a.shape = f.shape;
        a.x = f.x, a.gamma = f.gamma, a.beta = f.beta;
        a.shift = f.shift;
        a.silu = f.silu, a.dropout = f.dropout, a.mask = f.mask;
        a.mean = f.mean, a.rstd = f.rstd;
        a.grad_y = f.x, a.grad_y.data = memory.normal<T>(layer.elements());
        a.grad_x = f.y, a.grad_x.data = memory.output<T>(layer.elements());
        a.grad_gamma = memory.output<float>(layer.channels);
        a.grad_beta = memory.output<float>(layer.channels);
        if (second)
            a.grad_shift = {memory.output<T>(layer.batch * layer.channels), layer.batch, layer.channels,
                            layer.channels};
        return ITO_BENCH(memory, group_norm_backward, a);
    };
    cases.push_back(c);
}

const Registration registration("group_norm", [](std::vector<Case>& cases, const Model& model) {
    for (const Layer& layer : model.layers)
        add<float>(cases, model, layer, false), add<bfloat16>(cases, model, layer, false);
    add<float>(cases, model, model.layers.front(), true);
    add<bfloat16>(cases, model, model.layers.front(), true);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
