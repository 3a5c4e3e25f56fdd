// ldmatrix, mma.sync and wmma (executor/matrix.cpp). Fragment layouts are those of the PTX manual. wmma's layout is
// unspecified there; ours spreads the tile over the lanes in row order.
#pragma once

#include "tools/vgpu/device/thread.h"

namespace vgpu::device {

enum class Element { f16, bf16, tf32, f32 };

void ldmatrix(Thread& t, int matrices, bool transposed, U64 address, U32* result, U32 site);
void stmatrix(Thread& t, int matrices, bool transposed, U64 address, const U32* values, U32 site);
void movmatrix(Thread& t, U32* result, U32 value, U32 site);

// d = a * b + c for one m x n x k tile; registers as PTX orders them (32-bit words).
struct MmaShape {
    int m, n, k;
    Element a, b, c, d;
    bool saturate;
};
void mma_sync(Thread& t, const MmaShape& shape, U32* d, const U32* a, const U32* b, const U32* c, U32 site);

struct WmmaShape {
    int m, n, k;
    char role;  // 'a', 'b', 'c' (the accumulator, of load.c and store.d)
    bool row_major;
    Element element;
};
void wmma_load(Thread& t, const WmmaShape& shape, U64 address, U32 stride, U32* registers, int count,
               U32 site);
void wmma_store(Thread& t, const WmmaShape& shape, U64 address, U32 stride, const U32* registers, int count,
                U32 site);
// Register counts of a and b decide whether their elements are held once or twice.
struct WmmaCounts {
    int a, b, c, d;
};
void wmma_mma(Thread& t, const MmaShape& shape, const WmmaCounts& counts, U32* d, const U32* a, const U32* b,
              const U32* c, U32 site);

}  // namespace vgpu::device
