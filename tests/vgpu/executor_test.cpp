// Correct kernels, compiled by nvcc, translated and run: right in every schedule, and without a report.
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>

#include "kernels/philox/philox.h"
#include "tests/vgpu/kernels/kernels.h"
#include "tests/vgpu/runtime_support.h"
#include "tools/vgpu/kernel.h"

namespace vgpu_test {
namespace {

struct NamedSchedule {
    const char* name;
    vgpu::Schedule schedule;
};

class Executor : public Runtime, public testing::WithParamInterface<NamedSchedule> {
  protected:
    void SetUp() override {
        Runtime::SetUp();
        vgpu::set_schedule(GetParam().schedule);
    }
    void TearDown() override {
        EXPECT_CUDA(cudaDeviceSynchronize());
        EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
        Runtime::TearDown();
    }
    template <class T>
    static T* upload(const std::vector<T>& host) {
        T* device = device_array<T>(host.size());
        EXPECT_EQ(cudaSuccess,
                  cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
        return device;
    }
    template <class T>
    static T* zeros(std::size_t count) {
        T* device = device_array<T>(count);
        EXPECT_EQ(cudaSuccess, cudaMemset(device, 0, count * sizeof(T)));
        return device;
    }
    static std::vector<float> sequence(int n, float first = 0.5f) {
        std::vector<float> v(static_cast<std::size_t>(n));
        std::iota(v.begin(), v.end(), first);
        return v;
    }
};

INSTANTIATE_TEST_SUITE_P(Schedules, Executor,
                         testing::Values(NamedSchedule{"forward", {vgpu::Order::forward, 0}},
                                         NamedSchedule{"reverse", {vgpu::Order::reverse, 0}},
                                         NamedSchedule{"random1", {vgpu::Order::random, 1}},
                                         NamedSchedule{"random7", {vgpu::Order::random, 7}}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(Executor, VectorAdd) {
    for (const int n : {1, 31, 257, 5000}) {
        const auto a = sequence(n);
        const auto b = sequence(n, 100);
        float* c = device_array<float>(a.size());
        vector_add(upload(a), upload(b), c, n, 128);
        const auto sum = to_host(c, a.size());
        for (std::size_t i = 0; i < a.size(); ++i) {
            ASSERT_EQ(a[i] + b[i], sum[i]);
        }
    }
}

TEST_P(Executor, BlockSum) {
    const int n = 1000;
    std::vector<float> x(n);
    for (int i = 0; i < n; ++i) {
        x[static_cast<std::size_t>(i)] = static_cast<float>(i % 17);
    }
    float* sums = device_array<float>(4);
    block_sum(upload(x), sums, n, 4);
    const auto parts = to_host(sums, 4);
    EXPECT_EQ(std::accumulate(x.begin(), x.end(), 0.0f), std::accumulate(parts.begin(), parts.end(), 0.0f));
}

TEST_P(Executor, ScanInDynamicSharedMemory) {
    std::vector<int> x(200);
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<int>(i * 7 % 13);
    }
    int* y = device_array<int>(x.size());
    block_scan(upload(x), y, static_cast<int>(x.size()));
    const auto scan = to_host(y, x.size());
    int sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        sum += x[i];
        ASSERT_EQ(sum, scan[i]);
    }
}

TEST_P(Executor, Shuffles) {
    const auto x = sequence(96);
    float* sums = device_array<float>(3);
    warp_sum(upload(x), sums, 3);
    const auto result = to_host(sums, 3);
    for (std::size_t w = 0; w < 3; ++w) {
        EXPECT_EQ(std::accumulate(x.begin() + static_cast<long>(w * 32),
                                  x.begin() + static_cast<long>(w * 32 + 32), 0.0f),
                  result[w]);
    }
}

TEST_P(Executor, Votes) {
    std::vector<int> x(32);
    for (std::size_t i = 0; i < 32; ++i) {
        x[i] = static_cast<int>(i * 5 % 8);
    }
    unsigned* out = device_array<unsigned>(32 * 6);
    warp_votes(upload(x), out);
    const auto o = to_host(out, 32 * 6);
    unsigned ballot = 0;
    unsigned sum = 0;
    for (std::size_t i = 0; i < 32; ++i) {
        ballot |= static_cast<unsigned>(x[i] > 3) << i;
        sum += static_cast<unsigned>(x[i]);
    }
    for (std::size_t i = 0; i < 32; ++i) {
        unsigned same = 0;
        for (std::size_t k = 0; k < 32; ++k) {
            same |= static_cast<unsigned>(x[k] == x[i]) << k;
        }
        EXPECT_EQ(ballot, o[i * 6]);
        EXPECT_EQ(1u, o[i * 6 + 1]);
        EXPECT_EQ(same, o[i * 6 + 2]);
        EXPECT_EQ(0xFFFFFFFFu + 1, o[i * 6 + 3]);
        EXPECT_EQ(sum ^ 7u << 16, o[i * 6 + 4]);
        const int up = i % 8 == 0 ? x[i] : x[i - 1];
        const int down = i < 30 ? x[i + 2] : x[i];
        EXPECT_EQ(static_cast<unsigned>(up + 100 * x[i / 16 * 16 + 3] + 10000 * down), o[i * 6 + 5]);
    }
}

TEST_P(Executor, TilesDiverge) {
    const auto x = sequence(64, 0);
    float* y = device_array<float>(64);
    tile_sums(upload(x), y);
    const auto result = to_host(y, 64);
    for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t first = i / 16 * 16;
        const float sum = std::accumulate(x.begin() + static_cast<long>(first),
                                          x.begin() + static_cast<long>(first + 16), 0.0f);
        EXPECT_EQ(i / 16 % 2 == 0 ? sum : x[first], result[i]);
    }
}

TEST_P(Executor, Atomics) {
    std::vector<int> x(1000);
    std::vector<int> expected(16);
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<int>(i * i % 29);
        ++expected[static_cast<std::size_t>(x[i] & 15)];
    }
    int* bins = zeros<int>(16);
    histogram(upload(x), bins, static_cast<int>(x.size()));
    EXPECT_EQ(expected, to_host(bins, 16));
}

TEST_P(Executor, CoalescedThreads) {
    std::vector<int> x(60);
    std::iota(x.begin(), x.end(), 0);
    int* count = zeros<int>(1);
    int* order = zeros<int>(60);
    aggregated_count(upload(x), count, order, 60);
    EXPECT_EQ(20, to_host(count, 1)[0]);
    const auto o = to_host(order, 20);
    const std::set<int> all(o.begin(), o.end());
    EXPECT_EQ(20u, all.size());
    for (const int v : all) {
        EXPECT_EQ(0, v % 3);
    }
}

TEST_P(Executor, CurandNormals) {
    const int n = 512;
    float* out = device_array<float>(n);
    philox_normals(out, n, 0x1234567890ABCDEFull);
    const auto v = to_host(out, n);
    // The words are the host's Philox bit for bit; Box-Muller's approximate functions differ in rounding.
    for (std::size_t i = 0; i < v.size(); i += 4) {
        const auto expected =
            ito::kernels::normals_of(ito::kernels::philox_block(0x1234567890ABCDEFull, i / 4, 0));
        for (std::size_t k = 0; k < 4; ++k) {
            EXPECT_NEAR(expected[k], v[i + k], 1e-5) << i + k;
        }
    }
}

TEST_P(Executor, FunctionsLocalsAndSwitch) {
    const int n = 64;
    const auto x = sequence(n, -10);
    float* y = device_array<float>(x.size());
    call_function(upload(x), y, n);
    const auto result = to_host(y, x.size());
    for (int i = 0; i < n; ++i) {
        int k = 0;
        while ((k * 3 + i) % 8 != i % 8) {
            ++k;
        }
        float a = x[static_cast<std::size_t>(i)] + static_cast<float>(k);
        float b = 0;
        const int depth = i % 4;
        for (int d = 0; d < depth; ++d) {
            a *= 2;
        }
        b = a + 1;
        if (depth % 2 == 1) {
            std::swap(a, b);
        }
        const float expected[] = {
            a, b, a * b, a - b, b - 2 * a, -a, a / 3, std::sqrt(std::fabs(b)), std::exp(-std::fabs(a))};
        EXPECT_NEAR(expected[i % 9], result[static_cast<std::size_t>(i)], 1e-6 * std::fabs(expected[i % 9]))
            << i;
    }
}

TEST_P(Executor, Variables) {
    float* y = device_array<float>(16);
    read_constant(y);
    EXPECT_EQ(3.0f, to_host(y, 16)[2]);
    const auto values = sequence(16, 40);
    set_constant(values.data());
    read_constant(y);
    EXPECT_EQ(values, to_host(y, 16));
    reference_pointer(y);
    EXPECT_EQ(7.0f, to_host(y, 1)[0]);
}

TEST_P(Executor, Printf) {
    testing::internal::CaptureStdout();
    said_hello(9);
    EXPECT_CUDA(cudaDeviceSynchronize());
    std::fflush(stdout);
    EXPECT_EQ("hello 9 2.25 vgpu x    42|%\n", testing::internal::GetCapturedStdout());
}

TEST_P(Executor, NamedBarriers) {
    const auto x = sequence(128);
    float* y = device_array<float>(128 + 96);
    named_barriers(upload(x), y);
    const auto result = to_host(y, 128 + 96);
    for (std::size_t i = 0; i < 128; ++i) {
        EXPECT_EQ(x[i / 32 * 32 + 31 - i % 32], result[i]);
    }
    for (std::size_t i = 128; i < 128 + 96; ++i) {
        EXPECT_EQ(32.0f, result[i]);
    }
}

TEST_P(Executor, ThreadsThatEndedDoNotHoldABarrier) {
    const auto x = sequence(64);
    float* y = device_array<float>(64);
    early_exit(upload(x), y, 40);
    const auto result = to_host(y, 40);
    for (std::size_t i = 0; i < 40; ++i) {
        EXPECT_EQ(x[39 - i], result[i]);
    }
}

TEST_P(Executor, FunctionPointers) {
    const auto x = sequence(64);
    float* y = device_array<float>(64);
    virtual_call(upload(x), y, 64);
    const auto result = to_host(y, 64);
    for (std::size_t i = 0; i < 64; ++i) {
        EXPECT_EQ(i % 2 == 0 ? 2 * x[i] : x[i] * x[i], result[i]);
    }
}

TEST_P(Executor, PollingLetsOthersRun) {
    int* out = device_array<int>(1);
    spin_flag(out);
    EXPECT_EQ(5, to_host(out, 1)[0]);
}

// --- matrices ----------------------------------------------------------------------------------------------------
unsigned short bf16(float v) {
    std::uint32_t bits;
    std::memcpy(&bits, &v, 4);
    return static_cast<unsigned short>(bits >> 16);
}
float small(std::size_t i) {
    return static_cast<float>(static_cast<int>(i * 37 % 19) - 9) / 8;
}  // exact in bf16 and f16

class Gemm : public Executor {
  protected:
    void check(int m, int n, int k, bool wmma) {
        std::vector<unsigned short> a(static_cast<std::size_t>(m * k));
        std::vector<unsigned short> b(static_cast<std::size_t>(n * k));
        for (std::size_t i = 0; i < a.size(); ++i) {
            a[i] = bf16(small(i));
        }
        for (std::size_t i = 0; i < b.size(); ++i) {
            b[i] = bf16(small(i * 3 + 1));
        }
        const auto* da = reinterpret_cast<const __nv_bfloat16*>(upload(a));
        const auto* db = reinterpret_cast<const __nv_bfloat16*>(upload(b));
        float* c = device_array<float>(static_cast<std::size_t>(m * n));
        (wmma ? gemm_wmma : gemm_mma)(da, db, c, m, n, k);
        const auto result = to_host(c, static_cast<std::size_t>(m * n));
        for (int i = 0; i < m; ++i) {
            for (int j = 0; j < n; ++j) {
                double sum = 0;
                for (int l = 0; l < k; ++l) {
                    sum += static_cast<double>(small(static_cast<std::size_t>(i * k + l))) *
                           small(static_cast<std::size_t>(j * k + l) * 3 + 1);
                }
                ASSERT_NEAR(sum, result[static_cast<std::size_t>(i * n + j)], 1e-5) << i << " " << j;
            }
        }
    }
};
INSTANTIATE_TEST_SUITE_P(Schedules, Gemm,
                         testing::Values(NamedSchedule{"forward", {vgpu::Order::forward, 0}},
                                         NamedSchedule{"reverse", {vgpu::Order::reverse, 0}},
                                         NamedSchedule{"random", {vgpu::Order::random, 3}}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(Gemm, DoubleBufferedMma) {
    check(64, 96, 128, false);
}
TEST_P(Gemm, Wmma) {
    check(32, 48, 64, true);
}

TEST_P(Gemm, HalfTile) {
    std::vector<unsigned short> a(128), b(64);
    const auto half = [](float v) {  // small's values have few bits: exponent and mantissa move over exactly
        std::uint32_t bits;
        std::memcpy(&bits, &v, 4);
        return static_cast<unsigned short>(
            v == 0 ? 0 : (bits >> 16 & 0x8000) | (((bits >> 23 & 0xFF) - 112) << 10) | (bits >> 13 & 0x3FF));
    };
    for (std::size_t i = 0; i < 128; ++i) {
        a[i] = half(small(i));
        b[i % 64] = half(small(i % 64 + 5));
    }
    float* c = device_array<float>(128);
    gemm_half(upload(a), upload(b), c);
    const auto result = to_host(c, 128);
    for (std::size_t i = 0; i < 16; ++i) {
        for (std::size_t j = 0; j < 8; ++j) {
            float sum = 1;
            for (std::size_t l = 0; l < 8; ++l) {
                sum += small(i * 8 + l) * small(j * 8 + l + 5);
            }
            EXPECT_EQ(sum, result[i * 8 + j]);
        }
    }

    std::vector<unsigned short> square_a(256), square_b(256);
    for (std::size_t i = 0; i < 256; ++i) {
        square_a[i] = half(small(i));
        square_b[i] = half(small(i + 5));
    }
    auto* d = device_array<unsigned short>(256);
    gemm_wmma_half(upload(square_a), upload(square_b), d);
    const auto halves = to_host(d, 256);
    for (std::size_t i = 0; i < 16; ++i) {
        for (std::size_t j = 0; j < 16; ++j) {
            float sum = 0.5f;
            for (std::size_t l = 0; l < 16; ++l) {
                sum += small(l * 16 + i) * small(l * 16 + j + 5);  // a is stored by columns, b by rows
            }
            EXPECT_EQ(half(sum), halves[j * 16 + i]) << i << " " << j;
        }
    }
}

TEST_P(Gemm, Tf32TileAndTransposedLoad) {
    std::vector<float> a(128), b(64);
    for (std::size_t i = 0; i < 128; ++i) {
        a[i] = small(i) + 1e-5f;  // lost in tf32
        b[i % 64] = small(i % 64 + 5);
    }
    float* c = device_array<float>(128);
    gemm_tf32(upload(a), upload(b), c);
    const auto result = to_host(c, 128);
    for (std::size_t i = 0; i < 16; ++i) {
        for (std::size_t j = 0; j < 8; ++j) {
            float sum = 0;
            for (std::size_t l = 0; l < 8; ++l) {
                sum += (std::fabs(a[i * 8 + l]) < 0.01f ? a[i * 8 + l] : small(i * 8 + l)) * b[j * 8 + l];
            }
            EXPECT_NEAR(sum, result[i * 8 + j], 1e-6);
        }
    }
    std::vector<unsigned short> x(128);
    std::iota(x.begin(), x.end(), static_cast<unsigned short>(0));
    auto* y = device_array<unsigned short>(128);
    transpose_tiles(upload(x), y);
    const auto t = to_host(y, 128);
    for (std::size_t m = 0; m < 2; ++m) {
        for (std::size_t i = 0; i < 8; ++i) {
            for (std::size_t j = 0; j < 8; ++j) {
                EXPECT_EQ(x[m * 64 + j * 8 + i], t[m * 64 + i * 8 + j]);
            }
        }
    }
}

}  // namespace
}  // namespace vgpu_test
