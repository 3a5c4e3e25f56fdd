#pragma once
// 16-byte accesses and conversions to the type that kernels compute in, float32.

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/common/dtype.h"

namespace ito::kernels {

__device__ inline float to_float(float v) {
    return v;
}
__device__ inline float to_float(bfloat16 v) {
    return __uint_as_float(static_cast<std::uint32_t>(v.bits) << 16);
}

/// Rounds to nearest, ties to even, like bfloat16's constructor.
template <class T>
__device__ T from_float(float v);
template <>
__device__ inline float from_float<float>(float v) {
    return v;
}
template <>
__device__ inline bfloat16 from_float<bfloat16>(float v) {
    bfloat16 result;
    result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(v));
    return result;
}

/// Elements of 16 bytes: 4 floats, 8 bfloat16.
template <class T>
inline constexpr int vector_width = static_cast<int>(16 / sizeof(T));

/// The elements of a 16-byte access, as float32 in registers.
template <class T>
struct Vector {
    static constexpr int width = vector_width<T>;
    float v[width];
};

/// `from` must be 16-byte aligned.
__device__ inline Vector<float> load_vector(const float* from) {
    const float4 w = *reinterpret_cast<const float4*>(from);
    return {{w.x, w.y, w.z, w.w}};
}
__device__ inline Vector<bfloat16> load_vector(const bfloat16* from) {
    const uint4 w = *reinterpret_cast<const uint4*>(from);
    const std::uint32_t words[4] = {w.x, w.y, w.z, w.w};
    Vector<bfloat16> result;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        result.v[2 * i] = __uint_as_float(words[i] << 16);
        result.v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
    return result;
}

__device__ inline void store_vector(float* to, const Vector<float>& x) {
    *reinterpret_cast<float4*>(to) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}
__device__ inline void store_vector(bfloat16* to, const Vector<bfloat16>& x) {
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(x.v[2 * i], x.v[2 * i + 1]);
        words[i] = static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) |
                   (static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16);
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

/// True if every row of a matrix with this start and row stride begins on 16 bytes (null: yes).
template <class T>
bool rows_aligned(const T* data, std::int64_t stride) {
    return data == nullptr || (reinterpret_cast<std::uintptr_t>(data) % 16 == 0 &&
                               static_cast<std::size_t>(stride) * sizeof(T) % 16 == 0);
}

/// 1 / (1 + exp(-x)); 0 and 1 at the ends. Off by up to 3 units in the last place near zero and above, below by up to 1.2
/// more for each unit of -x, as exp is. Divided exactly, because 1 - sigmoid(x) times a large x must be 0.
__device__ inline float sigmoid(float x) {
    return 1.0f / (1.0f + __expf(-x));
}

}  // namespace ito::kernels
