// ldmatrix, stmatrix, movmatrix, mma.sync and wmma. Products of 16-bit and TF32 elements are exact in float; a tile is
// summed in double and rounded once, which is closer than the hardware's truncating adder tree, hence not bit-identical.
#include "tools/vgpu/device/matrix.h"

#include <cstring>

#include "tools/vgpu/device/convert.h"
#include "tools/vgpu/device/memory.h"
#include "tools/vgpu/executor/executor.h"

namespace vgpu::device {
namespace {

ThreadState& state(Thread& t) {
    return static_cast<ThreadState&>(t);
}

F64 to_double(Element element, U32 bits) {
    switch (element) {
        case Element::f16:
            return half_to_float<F16>(static_cast<U16>(bits));
        case Element::bf16:
            return half_to_float<BF16>(static_cast<U16>(bits));
        case Element::tf32:
            return as<F32>(bits & 0xFFFFE000u);  // the hardware ignores the low bits
        default:
            return as<F32>(bits);
    }
}
U32 from_double(Element element, F64 v) {
    switch (element) {
        case Element::f16:
            return double_to_half<F16>(v);
        case Element::bf16:
            return double_to_half<BF16>(v);
        default:
            return as<U32>(quiet(static_cast<F32>(v)));
    }
}
bool is_small(Element e) {
    return e == Element::f16 || e == Element::bf16;
}

// Element `index` of a fragment held in 32-bit words, two halves per word.
U32 get(Element element, const U32* words, int index) {
    return is_small(element) ? words[index / 2] >> (index % 2 * 16) & 0xFFFF : words[index];
}
void put(Element element, U32* words, int index, U32 bits) {
    if (!is_small(element)) {
        words[index] = bits;
        return;
    }
    const int shift = index % 2 * 16;
    words[index / 2] = (words[index / 2] & ~(0xFFFFu << shift)) | bits << shift;
}

void all_lanes(Executor& e, ThreadState& t, U32 site) {
    const U32 missing = e.warp(t).exited;
    if (missing != 0) {
        char text[96];
        std::snprintf(text, sizeof(text), "needs all 32 lanes; the lanes 0x%08x have ended or do not exist",
                      missing);
        e.fault(t, Fault::lane_exit, site, 0, 0, text);
        e.abort();
    }
}

// --- 8x8 matrices of 16-bit elements -----------------------------------------------------------------------------
struct RowsRequest {
    Thread* thread;
    int matrices;
    bool transposed;
    U64 address;
    U32* loaded;
    const U32* stored;
    U32 site;
};

void complete_load(Executor&, Warp&, Collective& c) {
    for (int m = 0; m < static_cast<RowsRequest*>(c.requests[0])->matrices; ++m) {
        U16 tile[8][8];
        for (int row = 0; row < 8; ++row) {
            const auto& r = *static_cast<RowsRequest*>(c.requests[m * 8 + row]);
            std::memcpy(tile[row], read_pointer<Space::generic, 16>(*r.thread, r.address, r.site, false), 16);
        }
        for (int lane = 0; lane < 32; ++lane) {
            const auto& r = *static_cast<RowsRequest*>(c.requests[lane]);
            const int row = lane / 4;
            const int column = lane % 4 * 2;
            r.loaded[m] = r.transposed ? tile[column][row] | static_cast<U32>(tile[column + 1][row]) << 16
                                       : tile[row][column] | static_cast<U32>(tile[row][column + 1]) << 16;
        }
    }
}

void complete_store(Executor&, Warp&, Collective& c) {
    for (int m = 0; m < static_cast<RowsRequest*>(c.requests[0])->matrices; ++m) {
        U16 tile[8][8];
        for (int lane = 0; lane < 32; ++lane) {
            const auto& r = *static_cast<RowsRequest*>(c.requests[lane]);
            const int row = lane / 4;
            const int column = lane % 4 * 2;
            for (int k = 0; k < 2; ++k) {
                (r.transposed ? tile[column + k][row] : tile[row][column + k]) =
                    static_cast<U16>(r.stored[m] >> (16 * k));
            }
        }
        for (int row = 0; row < 8; ++row) {
            const auto& r = *static_cast<RowsRequest*>(c.requests[m * 8 + row]);
            std::memcpy(write_pointer<Space::generic, 16>(*r.thread, r.address, r.site, tile[row], false),
                        tile[row], 16);
        }
    }
}

void complete_transpose(Executor&, Warp&, Collective& c) {
    U16 tile[8][8];
    for (int lane = 0; lane < 32; ++lane) {
        const U32 v = *static_cast<RowsRequest*>(c.requests[lane])->stored;
        tile[lane / 4][lane % 4 * 2] = static_cast<U16>(v);
        tile[lane / 4][lane % 4 * 2 + 1] = static_cast<U16>(v >> 16);
    }
    for (int lane = 0; lane < 32; ++lane) {
        *static_cast<RowsRequest*>(c.requests[lane])->loaded =
            tile[lane % 4 * 2][lane / 4] | static_cast<U32>(tile[lane % 4 * 2 + 1][lane / 4]) << 16;
    }
}

// --- products ------------------------------------------------------------------------------------------------------
struct ProductRequest {
    MmaShape shape;
    WmmaCounts counts;
    U32* d;
    const U32 *a, *b, *c;
};

constexpr int most = 32 * 32;

void multiply(const MmaShape& s, const F64* a, const F64* b, const F64* c, F64* d) {
    for (int i = 0; i < s.m; ++i) {
        for (int j = 0; j < s.n; ++j) {
            F64 sum = 0;
            for (int k = 0; k < s.k; ++k) {
                sum += a[i * s.k + k] * b[k * s.n + j];
            }
            d[i * s.n + j] = sum + c[i * s.n + j];
        }
    }
}

// Layouts of mma.sync in the PTX manual, with group = lane / 4 and in = lane % 4.
void a_position(const MmaShape& s, int lane, int i, int& row, int& column) {
    const int per = is_small(s.a) ? 2 : 1;  // neighbouring columns in one register
    const int word = i / per;
    row = lane / 4 + word % 2 * 8;
    column = lane % 4 * per + i % per + word / 2 * 4 * per;
}
void b_position(const MmaShape& s, int lane, int i, int& row, int& column) {
    const int per = is_small(s.a) ? 2 : 1;
    row = lane % 4 * per + i % per + i / per * 4 * per;
    column = lane / 4;
}
void c_position(int lane, int i, int& row, int& column) {
    row = lane / 4 + i / 2 * 8;
    column = lane % 4 * 2 + i % 2;
}

void complete_mma(Executor&, Warp&, Collective& c) {
    const MmaShape& s = static_cast<ProductRequest*>(c.requests[0])->shape;
    F64 a[most], b[most], acc[most], d[most];
    int row = 0;
    int column = 0;
    for (int lane = 0; lane < 32; ++lane) {
        const auto& r = *static_cast<ProductRequest*>(c.requests[lane]);
        for (int i = 0; i < s.m * s.k / 32; ++i) {
            a_position(s, lane, i, row, column);
            a[row * s.k + column] = to_double(s.a, get(s.a, r.a, i));
        }
        for (int i = 0; i < s.k * s.n / 32; ++i) {
            b_position(s, lane, i, row, column);
            b[row * s.n + column] = to_double(s.b, get(s.b, r.b, i));
        }
        for (int i = 0; i < s.m * s.n / 32; ++i) {
            c_position(lane, i, row, column);
            acc[row * s.n + column] = to_double(s.c, get(s.c, r.c, i));
        }
    }
    multiply(s, a, b, acc, d);
    for (int lane = 0; lane < 32; ++lane) {
        const auto& r = *static_cast<ProductRequest*>(c.requests[lane]);
        for (int i = 0; i < s.m * s.n / 32; ++i) {
            c_position(lane, i, row, column);
            put(s.d, r.d, i, from_double(s.d, d[row * s.n + column]));
        }
    }
}

// wmma: element i of lane l is number (l * per_lane + i) % total of the matrix in row order. Where PTX gives a lane
// more registers than elements are needed (f16 operands), the elements are held more than once.
int elements_per_lane(Element e, int words) {
    return is_small(e) ? words * 2 : words;
}

void complete_wmma(Executor&, Warp&, Collective& c) {
    const auto& first = *static_cast<ProductRequest*>(c.requests[0]);
    const MmaShape& s = first.shape;
    F64 a[most], b[most], acc[most], d[most];
    const int na = elements_per_lane(s.a, first.counts.a);
    const int nb = elements_per_lane(s.b, first.counts.b);
    const int nc = elements_per_lane(s.c, first.counts.c);
    const int nd = elements_per_lane(s.d, first.counts.d);
    for (int lane = 0; lane < 32; ++lane) {
        const auto& r = *static_cast<ProductRequest*>(c.requests[lane]);
        for (int i = 0; i < na; ++i) {
            a[(lane * na + i) % (s.m * s.k)] = to_double(s.a, get(s.a, r.a, i));
        }
        for (int i = 0; i < nb; ++i) {
            b[(lane * nb + i) % (s.k * s.n)] = to_double(s.b, get(s.b, r.b, i));
        }
        for (int i = 0; i < nc; ++i) {
            acc[(lane * nc + i) % (s.m * s.n)] = to_double(s.c, get(s.c, r.c, i));
        }
    }
    multiply(s, a, b, acc, d);
    for (int lane = 0; lane < 32; ++lane) {
        const auto& r = *static_cast<ProductRequest*>(c.requests[lane]);
        for (int i = 0; i < nd; ++i) {
            F64 v = d[(lane * nd + i) % (s.m * s.n)];
            if (s.saturate) {
                v = is_nan(v) ? 0 : v > 65504 ? 65504 : v < -65504 ? -65504 : v;
            }
            put(s.d, r.d, i, from_double(s.d, v));
        }
    }
}

struct TileRequest {
    Thread* thread;
    WmmaShape shape;
    U64 address;
    U32 stride;
    U32* loaded;
    const U32* stored;
    int count;
    U32 site;
};

template <class Access>
void each_element(TileRequest& r, int lane, Access&& access) {
    const WmmaShape& s = r.shape;
    const int rows = s.role == 'b' ? s.k : s.m;
    const int columns = s.role == 'a' ? s.k : s.n;
    const int n = elements_per_lane(s.element, r.count);
    const U64 bytes = is_small(s.element) ? 2 : 4;
    for (int i = 0; i < n; ++i) {
        const int e = (lane * n + i) % (rows * columns);
        const U64 row = static_cast<U64>(e / columns);
        const U64 column = static_cast<U64>(e % columns);
        access(i, r.address + bytes * (s.row_major ? row * r.stride + column : column * r.stride + row));
    }
}

void complete_tile_load(Executor&, Warp&, Collective& c) {
    for (int lane = 0; lane < 32; ++lane) {
        auto& r = *static_cast<TileRequest*>(c.requests[lane]);
        each_element(r, lane, [&](int i, U64 at) {
            const U32 bits = is_small(r.shape.element) ? ld<Space::generic, U16>(*r.thread, at, r.site)
                                                       : ld<Space::generic, U32>(*r.thread, at, r.site);
            put(r.shape.element, r.loaded, i, bits);
        });
    }
}

void complete_tile_store(Executor&, Warp&, Collective& c) {
    for (int lane = 0; lane < 32; ++lane) {
        auto& r = *static_cast<TileRequest*>(c.requests[lane]);
        each_element(r, lane, [&](int i, U64 at) {
            const U32 bits = get(r.shape.element, r.stored, i);
            if (is_small(r.shape.element)) {
                st<Space::generic, U16>(*r.thread, at, r.site, static_cast<U16>(bits));
            } else {
                st<Space::generic, U32>(*r.thread, at, r.site, bits);
            }
        });
    }
}

void meet(Thread& thread, Meeting kind, void* request, void (*complete)(Executor&, Warp&, Collective&),
          U32 site) {
    ThreadState& t = state(thread);
    Executor& e = Executor::of(t);
    all_lanes(e, t, site);
    e.meet(t, ~0u, kind, request, complete, site);
}

}  // namespace

void ldmatrix(Thread& t, int matrices, bool transposed, U64 address, U32* result, U32 site) {
    RowsRequest r{&t, matrices, transposed, address, result, nullptr, site};
    meet(t, Meeting::ldmatrix, &r, complete_load, site);
}
void stmatrix(Thread& t, int matrices, bool transposed, U64 address, const U32* values, U32 site) {
    RowsRequest r{&t, matrices, transposed, address, nullptr, values, site};
    meet(t, Meeting::stmatrix, &r, complete_store, site);
}
void movmatrix(Thread& t, U32* result, U32 value, U32 site) {
    RowsRequest r{&t, 1, true, 0, result, &value, site};
    meet(t, Meeting::movmatrix, &r, complete_transpose, site);
}
void mma_sync(Thread& t, const MmaShape& shape, U32* d, const U32* a, const U32* b, const U32* c, U32 site) {
    ProductRequest r{shape, {}, d, a, b, c};
    meet(t, Meeting::mma, &r, complete_mma, site);
}
void wmma_mma(Thread& t, const MmaShape& shape, const WmmaCounts& counts, U32* d, const U32* a, const U32* b,
              const U32* c, U32 site) {
    ProductRequest r{shape, counts, d, a, b, c};
    meet(t, Meeting::wmma, &r, complete_wmma, site);
}
void wmma_load(Thread& t, const WmmaShape& shape, U64 address, U32 stride, U32* registers, int count,
               U32 site) {
    TileRequest r{&t, shape, address, stride, registers, nullptr, count, site};
    meet(t, Meeting::wmma, &r, complete_tile_load, site);
}
void wmma_store(Thread& t, const WmmaShape& shape, U64 address, U32 stride, const U32* registers, int count,
                U32 site) {
    TileRequest r{&t, shape, address, stride, nullptr, registers, count, site};
    meet(t, Meeting::wmma, &r, complete_tile_store, site);
}

}  // namespace vgpu::device
