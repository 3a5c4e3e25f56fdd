#pragma once
// Sixteen bytes of elements as one value. A thread always works on sixteen bytes; the accesses that move them are as wide as
// the tensor's alignment allows. So one kernel serves aligned tensors, slices of channels that start anywhere, and odd row
// strides.

#include <cstdint>

#include "kernels/common/view.h"
#include "kernels/cuda/vector.cuh"

namespace ito::kernels {

/// The widest access in bytes (16, 8, 4 or 2) that fits the start and the row stride of a tensor. Null: any.
template <class T>
int access_width(const T* data, std::int64_t stride) {
    const std::uintptr_t bits =
        reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride) * sizeof(T);
    int width = 16;
    while (data != nullptr && width > static_cast<int>(sizeof(T)) &&
           bits % static_cast<std::uintptr_t>(width) != 0)
        width /= 2;
    return width;
}

template <class T>
int access_width(const View<T>& view) {
    return access_width(view.data, view.stride);
}

/// Calls body.template operator()<width>() for a width of 16, 8, 4 or (bfloat16) 2.
template <class T, class Body>
void with_access_width(int width, Body&& body) {
    if (width == 16) return body.template operator()<16>();
    if (width == 8) return body.template operator()<8>();
    if constexpr (sizeof(T) == 2) {
        if (width == 2) return body.template operator()<2>();
    }
    body.template operator()<4>();
}

/// The first `count` (up to 16 bytes' worth) elements at `from`, zeros behind them.
template <class T, int width>
__device__ uint4 load_packed(const T* from, int count) {
    constexpr int elements = vector_width<T>;
    std::uint32_t word[4] = {};
    if (count < elements) {  // the odd end of a row
#pragma unroll
        for (int i = 0; i < elements; ++i) {
            if (i >= count) continue;
            if constexpr (sizeof(T) == 4)
                word[i] = __float_as_uint(from[i]);
            else
                word[i / 2] |= static_cast<std::uint32_t>(from[i].bits) << (i % 2 * 16);
        }
    } else if constexpr (width == 16) {
        return *reinterpret_cast<const uint4*>(from);
    } else if constexpr (width == 8) {
        const uint2 low = reinterpret_cast<const uint2*>(from)[0];
        const uint2 high = reinterpret_cast<const uint2*>(from)[1];
        return make_uint4(low.x, low.y, high.x, high.y);
    } else if constexpr (width == 4) {
#pragma unroll
        for (int i = 0; i < 4; ++i) word[i] = reinterpret_cast<const std::uint32_t*>(from)[i];
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            word[i] = from[2 * i].bits | static_cast<std::uint32_t>(from[2 * i + 1].bits) << 16;
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/// Writes the first `count` elements.
template <class T, int width>
__device__ void store_packed(T* to, const uint4& packed, int count) {
    constexpr int elements = vector_width<T>;
    const std::uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
    if (count < elements || width == 2) {
#pragma unroll
        for (int i = 0; i < elements; ++i) {
            if (i >= count) continue;
            if constexpr (sizeof(T) == 4)
                to[i] = __uint_as_float(word[i]);
            else
                to[i].bits = static_cast<std::uint16_t>(word[i / 2] >> (i % 2 * 16));
        }
    } else if constexpr (width == 16) {
        *reinterpret_cast<uint4*>(to) = packed;
    } else if constexpr (width == 8) {
        reinterpret_cast<uint2*>(to)[0] = make_uint2(packed.x, packed.y);
        reinterpret_cast<uint2*>(to)[1] = make_uint2(packed.z, packed.w);
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) reinterpret_cast<std::uint32_t*>(to)[i] = word[i];
    }
}

/// As float32 in registers.
template <class T>
__device__ Vector<T> unpack(const uint4& packed) {
    const std::uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
    Vector<T> result;
#pragma unroll
    for (int i = 0; i < Vector<T>::width; ++i) {
        if constexpr (sizeof(T) == 4)
            result.v[i] = __uint_as_float(word[i]);
        else
            result.v[i] = __uint_as_float(i % 2 ? word[i / 2] & 0xffff0000u : word[i / 2] << 16);
    }
    return result;
}

template <class T>
__device__ uint4 pack(const Vector<T>& x) {
    std::uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if constexpr (sizeof(T) == 4) {
            word[i] = __float_as_uint(x.v[i]);
        } else {
            const __nv_bfloat162 pair = __floats2bfloat162_rn(x.v[2 * i], x.v[2 * i + 1]);
            word[i] = static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) |
                      (static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16);
        }
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

}  // namespace ito::kernels
