// The linear layer in CUDA: the naive variant, and the bias gradient. The tiled variant is in linear_tiled.cu, NVIDIA's library in
// linear_cublaslt.cpp, the choice between them in linear_cuda.cpp.

#include <algorithm>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/linear/linear_product.h"

namespace ito::kernels {
namespace {

using namespace linear_detail;

constexpr int naive_columns = 32, naive_rows = 8, naive_threads = naive_columns * naive_rows;

/// Every element of both factors is fetched again for every result that it goes into.
template <class T, Operation op>
__global__ void __launch_bounds__(naive_threads) one_thread_a_result(Product<T, op> p) {
    const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(naive_columns) + threadIdx.x;
    if (j >= p.columns) return;
    for (std::int64_t i = blockIdx.y * static_cast<std::int64_t>(naive_rows) + threadIdx.y; i < p.rows;
         i += static_cast<std::int64_t>(gridDim.y) * naive_rows) {
        float sum = 0;
        for (std::int64_t r = 0; r < p.k; ++r)
            sum = __fmaf_rn(to_float(a_by_rows(op) ? p.a(i, r) : p.a(r, i)),
                            to_float(b_by_rows(op) ? p.b(j, r) : p.b(r, j)), sum);
        if (p.addend) sum += to_float(p.addend(i, j));
        if (p.bias != nullptr) sum += p.bias[j];
        p.out(i, j) = from_float<result_t<T, op>>(sum);
    }
}

/// One thread a column: its rows are added one after the other.
template <class T>
__global__ void __launch_bounds__(naive_threads) bias_gradient_naive(LinearBackwardWeights<T> a) {
    const std::int64_t n = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (n >= a.shape.out_features) return;
    double sum = a.accumulate_bias ? a.grad_bias[n] : 0.0f;
    for (std::int64_t m = 0; m < a.shape.rows; ++m) sum += to_float(a.grad_y(m, n));
    a.grad_bias[n] = static_cast<float>(sum);
}

}  // namespace

namespace linear_detail {

template <class T, Operation op>
void product_naive(const Context& context, const Product<T, op>& p) {
    launch(context, name_of(op), one_thread_a_result<T, op>,
           dim3(static_cast<unsigned>(blocks_for(p.columns, naive_columns)),
                static_cast<unsigned>(std::min<std::int64_t>(blocks_for(p.rows, naive_rows), 65535))),
           dim3(naive_columns, naive_rows), 0, p);
}

template <class T>
void bias_gradient(const Context& context, const LinearBackwardWeights<T>& a, bool naive) {
    if (naive) {
        launch(context, "linear_backward_bias", bias_gradient_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(a.shape.out_features, naive_threads))),
               dim3(naive_threads), 0, a);
        return;
    }
    const ColumnSumsCuda sums(context, a.shape.rows, a.shape.out_features);
    sums.run(context, a.grad_y, a.grad_bias, a.accumulate_bias);
}

#define ITO_NAIVE(T, op) template void product_naive(const Context&, const Product<T, Operation::op>&)
ITO_FOR_PRODUCTS(ITO_NAIVE);
template void bias_gradient(const Context&, const LinearBackwardWeights<float>&, bool);
template void bias_gradient(const Context&, const LinearBackwardWeights<bfloat16>&, bool);

}  // namespace linear_detail
}  // namespace ito::kernels
