#include "kernels/cuda/split_k.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tile_product.cuh"

namespace ito::kernels {
namespace {

constexpr int lanes = 32, most_warps = 8;

/// The first `first_blocks` blocks have the first sum. A block has 128 neighbouring elements, four to a lane; its warp w adds the
/// parts w, w + 8, w + 16, ...
__global__ void __launch_bounds__(lanes* most_warps)
    split_k_sum(const __grid_constant__ SplitK first, const __grid_constant__ SplitK second,
                unsigned first_blocks) {
    __shared__ double2 sums[most_warps][2][lanes];
    const bool is_second = blockIdx.x >= first_blocks;
    const SplitK& p = is_second ? second : first;
    const std::int64_t block = blockIdx.x - (is_second ? first_blocks : 0);
    const std::int64_t mine = 4 * (block * lanes + threadIdx.x), elements = p.partial.rows * p.partial.stride;
    double2 low{}, high{};
    if (mine < elements)
#pragma unroll 4
        for (std::int64_t i = threadIdx.y; i < p.parts; i += most_warps) {
            const float4 v = *reinterpret_cast<const float4*>(p.partial.data + i * elements + mine);
            low.x += v.x, low.y += v.y, high.x += v.z, high.y += v.w;
        }
    sums[threadIdx.y][0][threadIdx.x] = low, sums[threadIdx.y][1][threadIdx.x] = high;
    __syncthreads();
    if (threadIdx.y != 0 || mine >= elements) return;
    for (unsigned warp = 1; warp < blockDim.y; ++warp) {
        const double2 a = sums[warp][0][threadIdx.x], b = sums[warp][1][threadIdx.x];
        low.x += a.x, low.y += a.y, high.x += b.x, high.y += b.y;
    }
    const std::int64_t row = mine / p.partial.stride, column = mine % p.partial.stride;
    const std::int64_t left = p.partial.columns - column;
    const int count = left < 4 ? static_cast<int>(left) : 4;
    float* const out = p.out + row * p.partial.columns + column;
    const bool aligned = p.partial.columns % 4 == 0 && reinterpret_cast<std::uintptr_t>(p.out) % 16 == 0;
    const tile::Four add = p.accumulate ? tile::load_four(out, count, aligned) : tile::Four{};
    tile::store_four(out,
                     {{static_cast<float>(low.x + add.v[0]), static_cast<float>(low.y + add.v[1]),
                       static_cast<float>(high.x + add.v[2]), static_cast<float>(high.y + add.v[3])}},
                     count, aligned);
}

}  // namespace

void sum_split_k(const Context& context, const SplitK& first, const SplitK& second) {
    const auto blocks = [](const SplitK& p) {
        return static_cast<unsigned>(blocks_for(p.partial.rows * p.partial.stride, 4 * lanes));
    };
    // Where there are fewer parts than warps, the block has only as many warps, and every warp has a part.
    const auto warps =
        static_cast<unsigned>(std::clamp<std::int64_t>(std::max(first.parts, second.parts), 1, most_warps));
    launch(context, "split_k_sum", split_k_sum, dim3(blocks(first) + blocks(second)), dim3(lanes, warps), 0,
           first, second, blocks(first));
}

}  // namespace ito::kernels
