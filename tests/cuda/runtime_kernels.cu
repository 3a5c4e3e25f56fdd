#include "tests/cuda/runtime_kernels.h"

#include <stdexcept>

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/philox/philox.cuh"

namespace ito::testing {
namespace {

using namespace kernels;

template <int threads, class T>
__global__ void __launch_bounds__(threads) sum_twice(const T* in, T* out) {
    __shared__ T scratch[threads / warp_size];
    out[threadIdx.x] = block_sum<threads>(in[threadIdx.x], scratch);
    out[threads + threadIdx.x] = block_sum<threads>(in[threads + threadIdx.x], scratch);
}

template <class T>
__global__ void sum_of_warp(const T* in, T* out) {
    out[threadIdx.x] = warp_sum(in[threadIdx.x]);
}

constexpr int threads = 128;

template <class T>
__global__ void load_all(std::int64_t count, const T* in, float* by_vector, float* one_by_one) {
    constexpr int width = Vector<T>::width;
    const std::int64_t begin = (blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x) * width;
    if (begin >= count) return;
    const Vector<T> x = load_vector(in + begin);
    for (int i = 0; i < width; ++i) {
        by_vector[begin + i] = x.v[i];
        one_by_one[begin + i] = to_float(in[begin + i]);
    }
}

template <class T>
__global__ void store_all(std::int64_t count, const float* in, T* by_vector, T* one_by_one) {
    constexpr int width = Vector<T>::width;
    const std::int64_t begin = (blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x) * width;
    if (begin >= count) return;
    Vector<T> x;
    for (int i = 0; i < width; ++i) {
        x.v[i] = in[begin + i];
        one_by_one[begin + i] = from_float<T>(in[begin + i]);
    }
    store_vector(by_vector + begin, x);
}

__global__ void write_blocks(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t first,
                             std::int64_t blocks, uint4* words) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i < blocks) words[i] = philox_words(seed, subsequence, first + static_cast<std::uint64_t>(i));
}

__global__ void write_elements(PhiloxAddress address, std::int64_t sample, std::int64_t count,
                               uint4* word_quads, std::uint32_t* words, float4* normal_quads,
                               float* normals) {
    const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(threads) + threadIdx.x;
    if (i >= count) return;
    const PhiloxSample draws(address, sample);
    words[i] = draws.word(i);
    normals[i] = draws.normal(i);
    if (i % 4 != 0) return;
    word_quads[i / 4] = draws.words(i / 4);
    normal_quads[i / 4] = draws.normals(i / 4);
}

__global__ void __launch_bounds__(512) probe(int* out, int words) {
    extern __shared__ int shared[];
    shared[words - static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)] =
        static_cast<int>(threadIdx.x);
    if (blockIdx.x == 0)
        out[threadIdx.x] = shared[words - static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)];
}

unsigned blocks_of(std::int64_t work) {
    return static_cast<unsigned>(blocks_for(work, threads));
}

}  // namespace

template <class T>
void block_sum_twice(const Context& context, int size, const T* in, T* out) {
    const auto run = [&](auto kernel) {
        launch(context, "block_sum", kernel, 1, static_cast<unsigned>(size), 0, in, out);
    };
    switch (size) {
        case 32:
            return run(sum_twice<32, T>);
        case 64:
            return run(sum_twice<64, T>);
        case 96:
            return run(sum_twice<96, T>);
        case 256:
            return run(sum_twice<256, T>);
        case 512:
            return run(sum_twice<512, T>);
        case 1024:
            return run(sum_twice<1024, T>);
        default:
            throw std::invalid_argument("block_sum_twice: a size that is not in block_sizes");
    }
}

template <class T>
void warp_sum_once(const Context& context, const T* in, T* out) {
    launch(context, "warp_sum", sum_of_warp<T>, 1, warp_size, 0, in, out);
}

template <class T>
void load_both_ways(const Context& context, std::int64_t count, const T* in, float* by_vector,
                    float* one_by_one) {
    launch(context, "load", load_all<T>, blocks_of(count / Vector<T>::width), threads, 0, count, in,
           by_vector, one_by_one);
}

template <class T>
void store_both_ways(const Context& context, std::int64_t count, const float* in, T* by_vector,
                     T* one_by_one) {
    launch(context, "store", store_all<T>, blocks_of(count / Vector<T>::width), threads, 0, count, in,
           by_vector, one_by_one);
}

template void block_sum_twice(const Context&, int, const float*, float*);
template void block_sum_twice(const Context&, int, const double*, double*);
template void warp_sum_once(const Context&, const float*, float*);
template void warp_sum_once(const Context&, const double*, double*);
template void load_both_ways(const Context&, std::int64_t, const float*, float*, float*);
template void load_both_ways(const Context&, std::int64_t, const bfloat16*, float*, float*);
template void store_both_ways(const Context&, std::int64_t, const float*, float*, float*);
template void store_both_ways(const Context&, std::int64_t, const float*, bfloat16*, bfloat16*);

void philox_blocks(const Context& context, std::uint64_t seed, std::uint64_t subsequence, std::uint64_t first,
                   std::int64_t blocks, std::uint32_t* words) {
    launch(context, "philox_blocks", write_blocks, blocks_of(blocks), threads, 0, seed, subsequence, first,
           blocks, reinterpret_cast<uint4*>(words));
}

void philox_elements(const Context& context, const PhiloxAddress& address, std::int64_t sample,
                     std::int64_t count, std::uint32_t* word_quads, std::uint32_t* words, float* normal_quads,
                     float* normals) {
    launch(context, "philox_elements", write_elements, blocks_of(count), threads, 0, address, sample, count,
           reinterpret_cast<uint4*>(word_quads), words, reinterpret_cast<float4*>(normal_quads), normals);
}

void launch_probe(const Context& context, unsigned grid, unsigned block, std::size_t shared, int* out) {
    launch(context, "probe", probe, grid, block, shared, out, static_cast<int>(shared / sizeof(int)));
}

}  // namespace ito::testing
