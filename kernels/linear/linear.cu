// The linear layer in CUDA: the naive version, the choice between the versions, and the bias gradient. The tiled version is in
// linear_tiled.cu.

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/linear/linear_product.h"
#include "kernels/runtime/column_sums.cuh"
#include "kernels/runtime/launch.cuh"
#include "kernels/runtime/vector.cuh"
#include "kernels/runtime/workspace.h"

namespace ito::kernels {
namespace {

using namespace linear_detail;

// ---------------------------------------------------------------------------------------------------------------- naive
// One thread a result: every element of both factors is fetched again for every result that it goes into.

constexpr int naive_columns = 32, naive_rows = 8, naive_threads = naive_columns * naive_rows;

template <class T, Operation op>
__global__ void __launch_bounds__(naive_threads) product_naive(Product<T, op> p) {
    const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(naive_columns) + threadIdx.x;
    if (j >= p.columns) return;
    for (std::int64_t i = blockIdx.y * static_cast<std::int64_t>(naive_rows) + threadIdx.y; i < p.rows;
         i += static_cast<std::int64_t>(gridDim.y) * naive_rows) {
        float sum = 0;
        for (std::int64_t r = 0; r < p.reduced; ++r)
            sum = __fmaf_rn(to_float(p.a[a_by_rows(op) ? i * p.a_pitch + r : r * p.a_pitch + i]),
                            to_float(p.b[b_by_rows(op) ? j * p.b_pitch + r : r * p.b_pitch + j]), sum);
        if (p.addend != nullptr) sum += to_float(p.addend[i * p.addend_pitch + j]);
        if (p.bias != nullptr) sum += p.bias[j];
        p.out[i * p.out_pitch + j] = from_float<result_t<T, op>>(sum);
    }
}

/// One thread a column: its rows are added one after the other.
template <class T>
__global__ void __launch_bounds__(naive_threads) bias_gradient_naive(LinearBackwardWeights<T> a) {
    const std::int64_t n = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (n >= a.shape.out_features) return;
    double sum = a.accumulate_bias ? a.grad_bias[n] : 0.0f;
    for (std::int64_t m = 0; m < a.shape.rows; ++m) sum += to_float(a.grad_y[m * a.grad_y_pitch + n]);
    a.grad_bias[n] = static_cast<float>(sum);
}

template <class T, Operation op>
void launch_naive(const Context& context, const Product<T, op>& p) {
    launch(context, name_of(op), product_naive<T, op>,
           dim3(static_cast<unsigned>(blocks_for(p.columns, naive_columns)),
                static_cast<unsigned>(std::min<std::int64_t>(blocks_for(p.rows, naive_rows), 65535))),
           dim3(naive_columns, naive_rows), 0, p);
}

// ------------------------------------------------------------------------------------------------------------- launchers

bool is_naive(Operation op, Version version) {
    if (version != Version::best && version != Version::naive && version != Version::tiled)
        throw std::invalid_argument(std::string(name_of(op)) + ": no version '" + name_of(version) +
                                    "'; expected naive or tiled");
    return version == Version::naive;
}

template <class T, Operation op>
void run(const Context& context, const Product<T, op>& product, float* partial, bool naive) {
    if (naive)
        launch_naive(context, product);
    else
        product_tiled(context, product, partial);
}

template <class T>
void backward_weights(const Context& context, const LinearBackwardWeights<T>& a, Version version) {
    const bool naive = is_naive(Operation::backward_weights, version);
    if (a.grad_weight != nullptr) {
        WorkspaceCarver carver(context, "linear_backward_weights");
        run(context, product_of(a), naive ? nullptr : carver.take<float>(product_partials(a.shape)), naive);
    }
    if (a.grad_bias == nullptr) return;
    if (naive) {
        launch(context, "linear_backward_bias", bias_gradient_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(a.shape.out_features, naive_threads))),
               dim3(naive_threads), 0, a);
        return;
    }
    // In the same scratch: the stream runs it after the product.
    WorkspaceCarver carver(context, "linear_backward_weights");
    const ColumnSumsCuda sums(carver, a.shape.rows, a.shape.out_features);
    sums.run(context, a.grad_y, a.grad_y_pitch, a.grad_bias, a.accumulate_bias);
}

}  // namespace

namespace cuda {

void linear_forward(const Context& context, const LinearForward<float>& a, Version version) {
    run(context, product_of(a), nullptr, is_naive(Operation::forward, version));
}
void linear_forward(const Context& context, const LinearForward<bfloat16>& a, Version version) {
    run(context, product_of(a), nullptr, is_naive(Operation::forward, version));
}
void linear_backward_data(const Context& context, const LinearBackwardData<float>& a, Version version) {
    run(context, product_of(a), nullptr, is_naive(Operation::backward_data, version));
}
void linear_backward_data(const Context& context, const LinearBackwardData<bfloat16>& a, Version version) {
    run(context, product_of(a), nullptr, is_naive(Operation::backward_data, version));
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<float>& a, Version version) {
    backward_weights(context, a, version);
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<bfloat16>& a,
                             Version version) {
    backward_weights(context, a, version);
}

std::size_t linear_forward_workspace(const Context&, const LinearShape&, DType) {
    return 0;
}
std::size_t linear_backward_data_workspace(const Context&, const LinearShape&, DType) {
    return 0;
}
std::size_t linear_backward_weights_workspace(const Context&, const LinearShape& shape, DType) {
    WorkspaceCarver weight_carver, bias_carver;
    weight_carver.take<float>(product_partials(shape));
    const ColumnSumsCuda sums(bias_carver, shape.rows, shape.out_features);
    return std::max(weight_carver.used(), bias_carver.used());
}

}  // namespace cuda
}  // namespace ito::kernels
