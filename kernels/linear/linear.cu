// The linear layer in CUDA: the naive version, the choice between the versions, and the bias gradient. The tiled version is in
// linear_tiled.cu, NVIDIA's library in linear_vendor.cpp.

#include <algorithm>
#include <string>
#include <type_traits>

#include "kernels/linear/linear_product.h"
#include "kernels/runtime/column_sums.cuh"
#include "kernels/runtime/error.h"
#include "kernels/runtime/launch.cuh"
#include "kernels/runtime/scratch.h"
#include "kernels/runtime/vector.cuh"

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

template <class T>
void require_version(Operation op, Version version) {
    constexpr bool has_tf32 = std::is_same_v<T, float>;
    if (version == Version::best || version == Version::naive || version == Version::tiled ||
        version == Version::vendor || (has_tf32 && version == Version::vendor_tf32))
        return;
    throw Error(std::string(name_of(op)) + ": no version '" + name_of(version) + "'" +
                (has_tf32 ? "; expected naive, tiled, vendor or vendor_tf32"
                          : " for bfloat16; expected naive, tiled or vendor"));
}

/// Multiplications from which on `best` calls the library: below, a launch costs more than the product.
constexpr std::int64_t least_for_vendor = 1 << 22;

template <class T, Operation op>
bool wants_vendor(const Context& context, const Product<T, op>& p, Version version) {
    if (p.rows <= 0 || p.columns <= 0 || p.reduced <= 0)
        return false;  // nothing that the library would compute
    if (version == Version::best)
        return p.rows * p.columns * p.reduced >= least_for_vendor && context.cublaslt() != nullptr;
    return version == Version::vendor || version == Version::vendor_tf32;
}

/// Whether the library may round float32 factors to TF32.
bool rounds_to_tf32(const Context& context, Version version) {
    return version == Version::vendor_tf32 || (version == Version::best && context.math == MathMode::tf32);
}

/// The library was asked for by name, but did not compute the product.
void refuse_vendor(const Context& context, Operation op, Version version) {
    if (version != Version::vendor && version != Version::vendor_tf32) return;
    throw Error(std::string(name_of(op)) + ": the version '" + name_of(version) + "' needs " +
                (context.cublaslt() == nullptr ? "cuBLASLt, of which the context has no handle"
                                               : "an algorithm of cuBLASLt, which has none here"));
}

template <class T, Operation op>
void run_by_hand(const Context& context, const Product<T, op>& product, Version version) {
    if (version == Version::naive)
        launch_naive(context, product);
    else
        product_tiled(context, product);
}

/// The library adds a bias of y's type only.
__global__ void __launch_bounds__(naive_threads)
    round_bias(const float* bias, std::int64_t columns, bfloat16* rounded) {
    const std::int64_t n = blockIdx.x * static_cast<std::int64_t>(naive_threads) + threadIdx.x;
    if (n < columns) rounded[n] = from_float<bfloat16>(bias[n]);
}

template <class T>
void forward(const Context& context, const LinearForward<T>& a, Version version) {
    require_version<T>(Operation::forward, version);
    const auto product = product_of(a);
    if (wants_vendor(context, product, version)) {
        const void* bias = a.bias;
        Scratch<bfloat16> rounded;
        if constexpr (std::is_same_v<T, bfloat16>) {
            if (a.bias != nullptr) {
                rounded = Scratch<bfloat16>(context, product.columns);
                launch(context, "linear_round_bias", round_bias,
                       dim3(static_cast<unsigned>(blocks_for(product.columns, naive_threads))),
                       dim3(naive_threads), 0, a.bias, product.columns, rounded);
                bias = rounded.get();
            }
        }
        if (product_vendor(context, product, bias, rounds_to_tf32(context, version))) return;
        refuse_vendor(context, Operation::forward, version);
    }
    run_by_hand(context, product, version);
}

template <class T>
void backward_data(const Context& context, const LinearBackwardData<T>& a, Version version) {
    require_version<T>(Operation::backward_data, version);
    const auto product = product_of(a);
    if (wants_vendor(context, product, version)) {
        if (product_vendor(context, product, nullptr, rounds_to_tf32(context, version))) return;
        refuse_vendor(context, Operation::backward_data, version);
    }
    run_by_hand(context, product, version);
}

/// True if the library has written the bias gradient, too: it overwrites, and only beside the weights' gradient.
template <class T>
bool weight_gradient(const Context& context, const LinearBackwardWeights<T>& a, Version version) {
    const auto product = product_of(a);
    if (wants_vendor(context, product, version)) {
        const bool tf32 = rounds_to_tf32(context, version);
        if (a.grad_bias != nullptr && !a.accumulate_bias &&
            product_vendor(context, product, a.grad_bias, tf32))
            return true;
        if (product_vendor(context, product, nullptr, tf32)) return false;
        refuse_vendor(context, Operation::backward_weights, version);
    }
    run_by_hand(context, product, version);
    return false;
}

template <class T>
void backward_weights(const Context& context, const LinearBackwardWeights<T>& a, Version version) {
    require_version<T>(Operation::backward_weights, version);
    if (a.grad_weight != nullptr && weight_gradient(context, a, version)) return;
    if (a.grad_bias == nullptr) return;
    if (version == Version::naive) {
        launch(context, "linear_backward_bias", bias_gradient_naive<T>,
               dim3(static_cast<unsigned>(blocks_for(a.shape.out_features, naive_threads))),
               dim3(naive_threads), 0, a);
        return;
    }
    const ColumnSumsCuda sums(context, a.shape.rows, a.shape.out_features);
    sums.run(context, a.grad_y, a.grad_y_pitch, a.grad_bias, a.accumulate_bias);
}

}  // namespace

namespace cuda {

void linear_forward(const Context& context, const LinearForward<float>& a, Version version) {
    forward(context, a, version);
}
void linear_forward(const Context& context, const LinearForward<bfloat16>& a, Version version) {
    forward(context, a, version);
}
void linear_backward_data(const Context& context, const LinearBackwardData<float>& a, Version version) {
    backward_data(context, a, version);
}
void linear_backward_data(const Context& context, const LinearBackwardData<bfloat16>& a, Version version) {
    backward_data(context, a, version);
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<float>& a, Version version) {
    backward_weights(context, a, version);
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<bfloat16>& a,
                             Version version) {
    backward_weights(context, a, version);
}

}  // namespace cuda
}  // namespace ito::kernels
