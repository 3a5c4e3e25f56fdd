// Single instructions with known results. Operands come from memory, so that nvcc folds nothing.
#include "tests/vgpu/kernels/arithmetic.h"

namespace vgpu_test {
namespace {

// Words: I32(asm text with %0 = result, %1.. = operands)
#define UNARY(text, a)                             \
    {                                              \
        unsigned r;                                \
        asm volatile(text : "=r"(r) : "r"(in[a])); \
        out[k++] = r;                              \
    }
#define BINARY(text, a, b)                                     \
    {                                                          \
        unsigned r;                                            \
        asm volatile(text : "=r"(r) : "r"(in[a]), "r"(in[b])); \
        out[k++] = r;                                          \
    }
#define TERNARY(text, a, b, c)                                             \
    {                                                                      \
        unsigned r;                                                        \
        asm volatile(text : "=r"(r) : "r"(in[a]), "r"(in[b]), "r"(in[c])); \
        out[k++] = r;                                                      \
    }
#define FLOAT1(text, a)                              \
    {                                                \
        float r;                                     \
        asm volatile(text : "=f"(r) : "f"(real[a])); \
        out[k++] = __float_as_uint(r);               \
    }
#define FLOAT2(text, a, b)                                         \
    {                                                              \
        float r;                                                   \
        asm volatile(text : "=f"(r) : "f"(real[a]), "f"(real[b])); \
        out[k++] = __float_as_uint(r);                             \
    }
#define FLOAT3(text, a, b, c)                                                    \
    {                                                                            \
        float r;                                                                 \
        asm volatile(text : "=f"(r) : "f"(real[a]), "f"(real[b]), "f"(real[c])); \
        out[k++] = __float_as_uint(r);                                           \
    }
#define TO_WORD(text, a)                             \
    {                                                \
        unsigned r;                                  \
        asm volatile(text : "=r"(r) : "f"(real[a])); \
        out[k++] = r;                                \
    }
#define TO_WORD2(text, a, b)                                       \
    {                                                              \
        unsigned r;                                                \
        asm volatile(text : "=r"(r) : "f"(real[a]), "f"(real[b])); \
        out[k++] = r;                                              \
    }
#define FROM_WORD(text, a)                         \
    {                                              \
        float r;                                   \
        asm volatile(text : "=f"(r) : "r"(in[a])); \
        out[k++] = __float_as_uint(r);             \
    }

__global__ void arithmetic_kernel(const unsigned* in, const float* real, unsigned* out) {
    int k = 0;
    VGPU_TEST_CASES
}

}  // namespace

void arithmetic(const unsigned* in, const float* real, unsigned* out) {
    arithmetic_kernel<<<1, 1>>>(in, real, out);
}

}  // namespace vgpu_test
