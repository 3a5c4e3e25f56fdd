// Sums into a float64 on the device: per-block partial sums in scratch memory, then one block that adds them in a fixed
// order. An element's place in that order is its index in row-major order, whatever its address.

#include <algorithm>
#include <cstdint>

#include "kernels/common/scratch.h"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/reduce/reduce.h"

namespace ito::kernels {
namespace {

constexpr int split_threads = 256;
/// Elements of a block; those of a thread are added in float32.
constexpr int split = 8192, run = split / split_threads;

constexpr int last_threads = 1024;

template <class T>
struct Input {
    View<const T> x;
    std::int64_t elements;
    bool vectors;  ///< every group of vector_width elements in row-major order is one 16-byte access

    explicit Input(const View<const T>& all)
        : x(all.dense() ? all.flat() : all),
          elements(x.rows * x.columns),
          vectors(rows_aligned(x.data, x.stride) && (x.rows == 1 || x.columns % vector_width<T> == 0)) {}

    __device__ const T* at(std::int64_t index) const {
        if (x.rows == 1) return x.data + index;
        // A division of 32 bits takes a fifth of the time of one of 64.
        const std::int64_t row =
            elements <= 0x7fffffff ? static_cast<std::uint32_t>(index) / static_cast<std::uint32_t>(x.columns)
                                   : index / x.columns;
        return &x(row, index - row * x.columns);
    }
    /// Elements [first, first + width), zeros behind the end.
    __device__ Vector<T> group(std::int64_t first) const {
        if (vectors && first + Vector<T>::width <= elements) return load_vector(at(first));
        Vector<T> result;
#pragma unroll
        for (int i = 0; i < Vector<T>::width; ++i)
            result.v[i] = first + i < elements ? to_float(*at(first + i)) : 0.0f;
        return result;
    }
};

template <bool squares, class T>
__device__ void add(Vector<T>& sums, const Vector<T>& x) {
#pragma unroll
    for (int i = 0; i < Vector<T>::width; ++i)
        sums.v[i] = squares ? __fmaf_rn(x.v[i], x.v[i], sums.v[i]) : sums.v[i] + x.v[i];
}

/// out[block] = factor * the sum over the block's split.
template <class T, bool squares>
__global__ void __launch_bounds__(split_threads) reduce_splits(Input<T> in, double* out, double factor) {
    constexpr int width = Vector<T>::width, groups = run / width;
    __shared__ double scratch[split_threads / warp_size];
    const std::int64_t begin = blockIdx.x * static_cast<std::int64_t>(split);
    const std::int64_t first = begin + static_cast<std::int64_t>(threadIdx.x) * width;
    Vector<T> sums{};
    if (in.vectors && in.x.rows == 1 && begin + split <= in.elements) {
        Vector<T> x[groups];  // all on their way before the first is needed
#pragma unroll
        for (int k = 0; k < groups; ++k) x[k] = load_vector(in.x.data + first + k * split_threads * width);
#pragma unroll
        for (int k = 0; k < groups; ++k) add<squares>(sums, x[k]);
    } else {
#pragma unroll 1
        for (int k = 0; k < groups; ++k) add<squares>(sums, in.group(first + k * split_threads * width));
    }
#pragma unroll
    for (int distance = width / 2; distance > 0; distance /= 2)
#pragma unroll
        for (int i = 0; i < distance; ++i) sums.v[i] += sums.v[i + distance];
    const double total = block_sum<split_threads>(static_cast<double>(sums.v[0]), scratch);
    if (threadIdx.x == 0) out[blockIdx.x] = factor * total;
}

__global__ void __launch_bounds__(last_threads)
    reduce_last(const double* parts, std::int64_t count, double* out, double factor) {
    __shared__ double scratch[last_threads / warp_size];
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < count; i += last_threads) sum += parts[i];
    const double total = block_sum<last_threads>(sum, scratch);
    if (threadIdx.x == 0) *out = factor * total;
}

template <class T, bool squares>
__global__ void __launch_bounds__(last_threads) reduce_naive(Input<T> in, double* out, double factor) {
    __shared__ double scratch[last_threads / warp_size];
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < in.elements; i += last_threads) {
        const double x = static_cast<double>(to_float(*in.at(i)));
        sum += squares ? x * x : x;
    }
    const double total = block_sum<last_threads>(sum, scratch);
    if (threadIdx.x == 0) *out = factor * total;
}

template <bool squares, class T>
void reduce(const Context& context, const Reduce<T>& a, Variant wanted) {
    const char* const name = squares ? "sum_squares" : "sum";
    const Variant variant = choose_variant(name, wanted, {{Variant::vectorized}, {Variant::naive}});
    const Input<T> in(a.x);
    if (variant == Variant::naive)
        return launch(context, name, reduce_naive<T, squares>, 1, last_threads, 0, in, a.out, a.factor);
    const std::int64_t splits = std::max<std::int64_t>(blocks_for(in.elements, split), 1);
    if (splits == 1)
        return launch(context, name, reduce_splits<T, squares>, 1, split_threads, 0, in, a.out, a.factor);
    const Scratch<double> parts(context, splits);
    launch(context, name, reduce_splits<T, squares>, static_cast<unsigned>(splits), split_threads, 0, in,
           parts, 1.0);
    launch(context, name, reduce_last, 1, last_threads, 0, parts, splits, a.out, a.factor);
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void sum(const Context& context, const Reduce<T>& a, Variant variant) {
    reduce<false>(context, a, variant);
}
template <CudaFloat T>
void sum_squares(const Context& context, const Reduce<T>& a, Variant variant) {
    reduce<true>(context, a, variant);
}

ITO_FOR_CUDA_TYPES(sum, Reduce);
ITO_FOR_CUDA_TYPES(sum_squares, Reduce);

}  // namespace cuda
}  // namespace ito::kernels
