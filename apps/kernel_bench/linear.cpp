#include "kernels/linear/linear.h"

#include <fmt/format.h>

#include <string>

#include "apps/kernel_bench/cases.h"

namespace ito::apps::kernel_bench {
namespace {

using namespace kernels;

/// Minimum traffic: x, w and y or their gradients, once each.
template <class T>
Case layer_case(const char* kernel, const Model& model, const LinearShape& s, std::size_t weight_bytes) {
    Case c = describe<T>(kernel, model, fmt::format("{}x{}->{}", s.rows, s.in_features, s.out_features),
                         s.rows * s.out_features, 0, cuda::linear_variants);
    c.minimum_bytes = static_cast<double>(s.rows * (s.in_features + s.out_features)) * sizeof(T) +
                      static_cast<double>(s.in_features * s.out_features) * static_cast<double>(weight_bytes);
    c.operations = 2.0 * static_cast<double>(s.rows * s.in_features * s.out_features);
    return c;
}

template <class T>
void add(std::vector<Case>& cases, const Model& model, const LinearShape& s) {
    const std::int64_t in = s.rows * s.in_features, out = s.rows * s.out_features,
                       weights = s.in_features * s.out_features;
    const auto matrix = [=](auto* data, std::int64_t columns) {
        return View{data, s.rows, columns, columns};
    };
    Case c = layer_case<T>("linear_forward", model, s, sizeof(T));
    c.minimum_bytes += static_cast<double>(s.out_features) * sizeof(float);  // the bias
    c.prepare = [=](Buffers& memory) -> Launch {
        const T *x = memory.normal<T>(in), *weight = memory.normal<T>(weights);
        const float* bias = memory.normal<float>(s.out_features);
        const LinearForward<T> a{.shape = s,
                                 .x = matrix(x, s.in_features),
                                 .weight = weight,
                                 .bias = bias,
                                 .y = matrix(memory.output<T>(out), s.out_features)};
        return ITO_BENCH(memory, linear_forward, a);
    };
    cases.push_back(c);
    c = layer_case<T>("linear_backward_data", model, s, sizeof(T));
    c.prepare = [=](Buffers& memory) -> Launch {
        const T *dy = memory.normal<T>(out), *weight = memory.normal<T>(weights);
        const LinearBackwardData<T> a{s, matrix(dy, s.out_features), weight,
                                      matrix(memory.output<T>(in), s.in_features), false};
        return ITO_BENCH(memory, linear_backward_data, a);
    };
    cases.push_back(c);
    c = layer_case<T>("linear_backward_weights", model, s, sizeof(float));
    c.minimum_bytes += static_cast<double>(s.out_features) * sizeof(float);
    c.prepare = [=](Buffers& memory) -> Launch {
        const T *x = memory.normal<T>(in), *dy = memory.normal<T>(out);
        float *dw = memory.output<float>(weights), *db = memory.output<float>(s.out_features);
        const LinearBackwardWeights<T> a{s, matrix(x, s.in_features), matrix(dy, s.out_features), dw, db};
        return ITO_BENCH(memory, linear_backward_weights, a);
    };
    cases.push_back(c);
}

// The time embedding's second layer, and the projections around the attention of the second activation from below.
const Registration registration("linear", [](std::vector<Case>& cases, const Model& model) {
    const std::int64_t time = model.time_channels;
    const Layer& layer = model.layers[model.layers.size() - 2];
    const LinearShape shapes[] = {{model.image.batch, time, time},
                                  {layer.batch * layer.pixels(), layer.channels, 3 * layer.channels},
                                  {layer.batch * layer.pixels(), layer.channels, layer.channels}};
    for (const LinearShape& shape : shapes)
        add<float>(cases, model, shape), add<bfloat16>(cases, model, shape);
});

}  // namespace
}  // namespace ito::apps::kernel_bench
