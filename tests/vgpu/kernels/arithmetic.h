// The instructions that arithmetic.cu executes and arithmetic_test.cpp knows the results of: one list for both.
#pragma once

namespace vgpu_test {

void arithmetic(const unsigned* in, const float* real, unsigned* out);

// in[]:   0: 0xFFFFFFFB (-5)  1: 7  2: 0x12345678  3: 0x80000000  4: 3  5: 0x00FF00FF  6: 40  7: 0x7FFFFFFF  8: 0
//         9: 0x3C004000 (f16 1, 2; low half first: 2)  10: 0x42003800 (f16 3, 0.5)  11: 0x3F804000 (bf16 1, 2)
//         12: 0x40403F00 (bf16 3, 0.5)
// real[]: 0: 1.5  1: -2.25  2: NaN  3: +inf  4: 1e-40 (subnormal)  5: 3e9  6: 0.1  7: 2.5  8: -0.0  9: 3.5  10: 1e20
#define VGPU_TEST_CASES                                                                                      \
    BINARY("add.s32 %0, %1, %2;", 0, 1)                                                                      \
    BINARY("add.sat.s32 %0, %1, %2;", 7, 1)                                                                  \
    BINARY("sub.sat.s32 %0, %1, %2;", 3, 1)                                                                  \
    BINARY("mul.hi.s32 %0, %1, %2;", 0, 2)                                                                   \
    BINARY("mul.hi.u32 %0, %1, %2;", 0, 2)                                                                   \
    TERNARY("mad.hi.s32 %0, %1, %2, %3;", 2, 2, 1)                                                           \
    TERNARY("mad.lo.u32 %0, %1, %2, %3;", 2, 1, 0)                                                           \
    BINARY("div.s32 %0, %1, %2;", 0, 4)                                                                      \
    BINARY("rem.s32 %0, %1, %2;", 0, 4)                                                                      \
    BINARY("div.u32 %0, %1, %2;", 0, 4)                                                                      \
    UNARY("abs.s32 %0, %1;", 0)                                                                              \
    TERNARY("sad.s32 %0, %1, %2, %3;", 0, 1, 4)                                                              \
    TERNARY("sad.u32 %0, %1, %2, %3;", 0, 1, 4)                                                              \
    BINARY("min.s32 %0, %1, %2;", 0, 1)                                                                      \
    BINARY("min.u32 %0, %1, %2;", 0, 1)                                                                      \
    BINARY("shl.b32 %0, %1, %2;", 2, 6)                                                                      \
    BINARY("shr.s32 %0, %1, %2;", 0, 6)                                                                      \
    BINARY("shr.u32 %0, %1, %2;", 0, 4)                                                                      \
    TERNARY("shf.l.wrap.b32 %0, %1, %2, %3;", 2, 5, 6)                                                       \
    TERNARY("shf.r.clamp.b32 %0, %1, %2, %3;", 2, 5, 4)                                                      \
    TERNARY("shf.r.clamp.b32 %0, %1, %2, %3;", 2, 5, 6)                                                      \
    UNARY("bfe.s32 %0, %1, 4, 8;", 2)                                                                        \
    UNARY("bfe.s32 %0, %1, 0, 3;", 1)                                                                        \
    UNARY("bfe.u32 %0, %1, 28, 8;", 2)                                                                       \
    BINARY("bfi.b32 %0, %1, %2, 8, 4;", 1, 2)                                                                \
    UNARY("brev.b32 %0, %1;", 2)                                                                             \
    UNARY("popc.b32 %0, %1;", 2)                                                                             \
    UNARY("clz.b32 %0, %1;", 2)                                                                              \
    UNARY("clz.b32 %0, %1;", 8)                                                                              \
    UNARY("bfind.u32 %0, %1;", 2)                                                                            \
    UNARY("bfind.s32 %0, %1;", 0)                                                                            \
    UNARY("bfind.shiftamt.u32 %0, %1;", 2)                                                                   \
    BINARY("prmt.b32 %0, %1, %2, 0x7531;", 2, 5)                                                             \
    BINARY("prmt.b32 %0, %1, %2, 0x80C4;", 2, 5)                                                             \
    BINARY("prmt.b32.rc16 %0, %1, %2, 1;", 2, 5)                                                             \
    TERNARY("lop3.b32 %0, %1, %2, %3, 0x96;", 0, 2, 5)                                                       \
    TERNARY("lop3.b32 %0, %1, %2, %3, 0xE8;", 0, 2, 5)                                                       \
    TERNARY("dp4a.s32.u32 %0, %1, %2, %3;", 0, 2, 1)                                                         \
    TERNARY("dp2a.lo.u32.u32 %0, %1, %2, %3;", 2, 5, 1)                                                      \
    BINARY("{ .reg .u32 l; add.cc.u32 l, %1, %2; addc.u32 %0, l, %2; }", 0, 1)                               \
    BINARY("{ .reg .u32 l; sub.cc.u32 l, %2, %1; subc.u32 %0, 10, 0; }", 0, 1)                               \
    BINARY("mul24.lo.s32 %0, %1, %2;", 0, 1)                                                                 \
    UNARY("{ .reg .u16 h; cvt.u16.u32 h, %1; cvt.s32.s8 %0, h; }", 2)                                        \
    UNARY("{ .reg .s16 h; cvt.sat.s16.s32 h, %1; cvt.u32.s16 %0, h; }", 7)                                   \
    BINARY("{ .reg .pred p, q; setp.lt.and.s32 p|q, %1, %2, 1; selp.u32 %0, 11, 22, q; }", 0, 1)             \
    BINARY("{ .reg .pred p; setp.lo.u32 p, %1, %2; selp.u32 %0, 11, 22, p; }", 0, 1)                         \
    BINARY("set.gt.u32.s32 %0, %1, %2;", 1, 0)                                                               \
    BINARY("slct.u32.s32 %0, 5, %1, %2;", 1, 0)                                                              \
    UNARY("cnot.b32 %0, %1;", 8)                                                                             \
    BINARY("cvt.pack.sat.u16.s32 %0, %1, %2;", 0, 7)                                                         \
    TO_WORD("cvt.rni.s32.f32 %0, %1;", 7)                                                                    \
    TO_WORD("cvt.rni.s32.f32 %0, %1;", 9)                                                                    \
    TO_WORD("cvt.rzi.s32.f32 %0, %1;", 1)                                                                    \
    TO_WORD("cvt.rmi.s32.f32 %0, %1;", 1)                                                                    \
    TO_WORD("cvt.rzi.s32.f32 %0, %1;", 5)                                                                    \
    TO_WORD("cvt.rzi.u32.f32 %0, %1;", 1)                                                                    \
    TO_WORD("cvt.rzi.s32.f32 %0, %1;", 2)                                                                    \
    FROM_WORD("cvt.rn.f32.s32 %0, %1;", 7)                                                                   \
    FROM_WORD("cvt.rz.f32.u32 %0, %1;", 0)                                                                   \
    FROM_WORD("cvt.rp.f32.u32 %0, %1;", 2)                                                                   \
    FLOAT2("add.rn.f32 %0, %1, %2;", 0, 6)                                                                   \
    FLOAT2("add.rp.f32 %0, %1, %2;", 0, 6)                                                                   \
    FLOAT2("add.ftz.f32 %0, %1, %2;", 4, 4)                                                                  \
    FLOAT2("add.f32 %0, %1, %2;", 4, 4)                                                                      \
    FLOAT2("add.sat.f32 %0, %1, %2;", 0, 6)                                                                  \
    FLOAT2("mul.sat.f32 %0, %1, %2;", 2, 6)                                                                  \
    FLOAT3("fma.rn.f32 %0, %1, %2, %3;", 6, 6, 1)                                                            \
    FLOAT3("fma.rz.f32 %0, %1, %2, %3;", 6, 6, 6)                                                            \
    FLOAT2("min.f32 %0, %1, %2;", 2, 0)                                                                      \
    FLOAT2("min.NaN.f32 %0, %1, %2;", 2, 0)                                                                  \
    FLOAT2("max.f32 %0, %1, %2;", 8, 4)                                                                      \
    FLOAT2("max.ftz.f32 %0, %1, %2;", 8, 4)                                                                  \
    FLOAT2("min.xorsign.abs.f32 %0, %1, %2;", 0, 1)                                                          \
    FLOAT2("copysign.f32 %0, %1, %2;", 1, 0)                                                                 \
    FLOAT2("div.rn.f32 %0, %1, %2;", 0, 1)                                                                   \
    FLOAT1("rcp.approx.f32 %0, %1;", 7)                                                                      \
    FLOAT1("sqrt.rn.f32 %0, %1;", 9)                                                                         \
    FLOAT1("ex2.approx.f32 %0, %1;", 0)                                                                      \
    FLOAT1("lg2.approx.f32 %0, %1;", 3)                                                                      \
    FLOAT1("cvt.rmi.f32.f32 %0, %1;", 1)                                                                     \
    FLOAT1("cvt.sat.f32.f32 %0, %1;", 1)                                                                     \
    TO_WORD("{ .reg .b16 h; cvt.rn.f16.f32 h, %1; cvt.u32.u16 %0, h; }", 6)                                  \
    TO_WORD("{ .reg .b16 h; cvt.rn.bf16.f32 h, %1; cvt.u32.u16 %0, h; }", 6)                                 \
    TO_WORD("{ .reg .b16 h; cvt.rn.relu.bf16.f32 h, %1; cvt.u32.u16 %0, h; }", 1)                            \
    TO_WORD("{ .reg .b16 h; cvt.rz.f16.f32 h, %1; cvt.u32.u16 %0, h; }", 10)                                 \
    TO_WORD2("cvt.rn.bf16x2.f32 %0, %1, %2;", 0, 1)                                                          \
    TO_WORD2("cvt.rn.f16x2.f32 %0, %1, %2;", 0, 1)                                                           \
    TO_WORD("cvt.rna.tf32.f32 %0, %1;", 6)                                                                   \
    FROM_WORD("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h; }", 10)                              \
    BINARY("add.f16x2 %0, %1, %2;", 9, 10)                                                                   \
    TERNARY("fma.rn.f16x2 %0, %1, %2, %3;", 9, 10, 10)                                                       \
    TERNARY("fma.rn.bf16x2 %0, %1, %2, %3;", 11, 12, 12)                                                     \
    TERNARY("fma.rn.relu.bf16x2 %0, %1, %2, %3;", 11, 12, 12)                                                \
    BINARY("max.bf16x2 %0, %1, %2;", 11, 12)                                                                 \
    UNARY("neg.f16x2 %0, %1;", 9)                                                                            \
    UNARY("abs.bf16x2 %0, %1;", 12)                                                                          \
    BINARY("mul.f16x2 %0, %1, %2;", 9, 10)                                                                   \
    BINARY("{ .reg .pred p, q; setp.lt.f16x2 p|q, %1, %2; selp.u32 %0, 1, 0, p; @q add.u32 %0, %0, 2; }", 9, \
           10)                                                                                               \
    TO_WORD2("{ .reg .pred p; setp.neu.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }", 2, 0)                        \
    TO_WORD2("{ .reg .pred p; setp.ne.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }", 2, 0)                         \
    TO_WORD("{ .reg .pred p; testp.subnormal.f32 p, %1; selp.u32 %0, 1, 0, p; }", 4)                         \
    UNARY("fns.b32 %0, %1, 0, 3;", 2)                                                                        \
    UNARY("{ .reg .b64 w; .reg .b32 h; cvt.u64.u32 w, %1; shl.b64 w, w, 36; mov.b64 {h, %0}, w; }", 2)       \
    BINARY("{ .reg .b64 w; mul.wide.s32 w, %1, %2; cvt.u32.u64 %0, w; }", 0, 1)                              \
    UNARY("{ .reg .f64 d; cvt.rn.f64.s32 d, %1; sqrt.rn.f64 d, d; cvt.rzi.u32.f64 %0, d; }", 6)

}  // namespace vgpu_test
