// Attention's backward variant `mma`.
#include <cuda_runtime_api.h>

#include "kernels/common/error.h"
#include "tests/kernels/attention_scores.h"

namespace ito::kernels {
namespace {

using namespace attention_test;
using testing::for_each_profile;
using testing::for_each_schedule;

// What `mma` takes: tokens that fill no tile, one row of a chunk more, both paddings of tokens and all three of heads, heads that
// are padded, several heads, gaps between rows.
const Case mma_cases[] = {{2, 1, 2, 64, 0},   {2, 16, 1, 256, 0}, {1, 49, 3, 64, 8},  {1, 33, 2, 40, 8},
                          {2, 64, 1, 136, 0}, {1, 61, 1, 128, 8}, {1, 65, 1, 128, 0}, {1, 196, 2, 64, 8},
                          {1, 129, 1, 72, 0}, {1, 231, 1, 256, 8}};

/// The device has the shared memory for `mma`: 227 KiB for more than 64 tokens.
bool holds_mma(const Case& c) {
    int device = 0, most = 0;
    EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
    EXPECT_EQ(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), cudaSuccess);
    const int stage = c.head_dim <= 64 ? 8 : c.head_dim <= 128 ? 16 : 32;
    return most >= (c.tokens > 64 ? 227 : 9 + 3 * stage) * 1024;
}

class AttentionCudaMma : public AttentionTest<bfloat16> {};

TEST_F(AttentionCudaMma, BackwardMatchesFloat64AndRepeatsToTheBit) {
    for (const Case& c : mma_cases) {
        if (!holds_mma(c)) continue;
        SCOPED_TRACE(text(c, Variant::mma));
        Data<bfloat16> data(c);
        data.fill();
        set_saved(data);
        const Data<double> exact = exact_backward(data);
        Data<bfloat16> first = data;
        backward(first, false, Variant::mma);
        expect_gradients(first, exact, Variant::mma);
        for_each_schedule([&] {
            Data<bfloat16> again = data;
            backward(again, false, Variant::mma);
            EXPECT_TRUE(bitwise_equal(again.grad_qkv, first.grad_qkv));
        });
    }
}

TEST_F(AttentionCudaMma, LargeScoresAndANegativeScale) {
    const auto scores = {
        +[](std::int64_t j) { return -9984.0 + 128 * static_cast<double>(j); },
        +[](std::int64_t j) { return 9984.0 - 128 * static_cast<double>(j); },
        +[](std::int64_t j) { return static_cast<double>(j % 7) + static_cast<double>(j / 64); },
    };
    for (const std::int64_t tokens : {50, 130})
        for (const auto& of : scores)
            for (const bool negative : {false, true}) {
                Data<bfloat16> data = with_scores<bfloat16>(tokens, of);
                if (!holds_mma(data.c)) continue;
                data.negative_scale = negative;
                set_saved(data);
                const Data<double> exact = exact_backward(data);
                backward(data, false, Variant::mma);
                expect_close(data.grad_qkv, exact.grad_qkv, 6e-4 + 2 * rounding<bfloat16>,
                             2e-2 + 80 * rounding<bfloat16>);
            }
}

// A NaN among the values of one head reaches the gradients of that head of that image, and nothing else.
TEST_F(AttentionCudaMma, NanStaysInItsHead) {
    Data<bfloat16> data(Case{2, 20, 2, 64, 0});
    if (!holds_mma(data.c)) GTEST_SKIP() << "too little shared memory";
    data.fill();
    set_saved(data);
    data.qkv.at(25, 2 * 128 + 3) = Strided<bfloat16>::poison();  // in the values of head 0 of image 1
    backward(data, false, Variant::mma);
    for (std::int64_t r = 0; r < 40; ++r)
        for (std::int64_t c = 0; c < 2 * 128; ++c)  // of queries and keys
            ASSERT_EQ(std::isnan(convert<float>(data.grad_qkv.at(r, c))),
                      r >= 20 && c % 128 < 64 && (c < 128 || r == 25))
                << r << ", " << c;
}

TEST_F(AttentionCudaMma, ImageAloneEqualsImageInABatch) {
    Data<bfloat16> batch(Case{3, 33, 2, 72, 0}), alone(Case{1, 33, 2, 72, 0});
    if (!holds_mma(batch.c)) GTEST_SKIP() << "too little shared memory";
    batch.fill();
    forward(batch, Variant::tensor), backward(batch, false, Variant::mma);
    alone.qkv = rows_of(batch.qkv, 33, 33), alone.grad_o = rows_of(batch.grad_o, 33, 33);
    forward(alone, Variant::tensor), backward(alone, false, Variant::mma);
    EXPECT_TRUE(bitwise_equal(alone.grad_qkv, rows_of(batch.grad_qkv, 33, 33)));
}

// As attention.h says: 11 u, or 16 where a product has two parts; each byte once from memory, no bank conflicts.
TEST_F(AttentionCudaMma, MovesTheBytesThatItSays) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    for (const std::int64_t tokens : {64, 256})
        for (const std::int64_t head_dim : {64, 128, 256}) {
            const Case c{1, tokens, 1, head_dim, 0};
            if (!holds_mma(c)) continue;
            SCOPED_TRACE(text(c, Variant::mma));
            Data<bfloat16> data(c);
            data.fill();
            set_saved(data);
            const double u = static_cast<double>(tokens * head_dim * 2);
            const auto total = testing::counted_total([&] { backward(data, false, Variant::mma); });
            EXPECT_LE(static_cast<double>(total.unique_bytes_read + total.unique_bytes_written),
                      1.05 * 8 * u);
            EXPECT_LE(32 * static_cast<double>(total.global_load_sectors + total.global_store_sectors),
                      1.05 * (tokens > 64 ? 16 : 11) * u);
            EXPECT_EQ(total.bank_conflicts, 0u);
        }
}

TEST_F(AttentionCudaMma, ToleranceSeesAPlantedError) {
    Data<bfloat16> data(mma_cases[2]);
    if (!holds_mma(data.c)) GTEST_SKIP() << "too little shared memory";
    data.fill();
    set_saved(data);
    Data<bfloat16> missed = data;
    missed.grad_o.at(3, 2) = {};  // as if one channel of one query had been missed
    const Data<double> wrong = exact_backward(missed);
    backward(data, false, Variant::mma);
    EXPECT_GT(testing::worst_error(data.grad_qkv, wrong.grad_qkv), 4e-5 + 20 * rounding<bfloat16>);
}

// `best` is mma wherever it takes the call and the device, and tensor where it does not.
TEST_F(AttentionCudaMma, BestOnEveryDevice) {
    std::size_t falls_back = 0, taken = 0;
    for_each_profile([&] {
        for (const Case& c : {mma_cases[1], mma_cases[2], mma_cases[8]}) {
            SCOPED_TRACE(text(c, Variant::best));
            Data<bfloat16> data(c);
            data.fill();
            set_saved(data);
            Data<bfloat16> best = data, named = data;
            backward(best, false, Variant::best);
            if (!holds_mma(c)) {
                ++falls_back;
                EXPECT_THROW(backward(named, false, Variant::mma), Error);
            } else {
                ++taken;
            }
            // Many tokens and few heads: a block for each head would leave most multiprocessors idle.
            const bool pays = c.tokens <= 64 || c.batch * c.heads >= 100;
            backward(named, false, holds_mma(c) && pays ? Variant::mma : Variant::tensor);
            EXPECT_TRUE(bitwise_equal(best.grad_qkv, named.grad_qkv));
        }
    });
    if (testing::on_virtual_gpu()) {
        EXPECT_EQ(taken, 3u + 2u + 1u);
        EXPECT_EQ(falls_back, 0u + 1u + 2u);
    }
}

TEST_F(AttentionCudaMma, RefusesWhatItDoesNotTake) {
    // Tokens, narrow and wide heads, rows that do not begin on 16 bytes.
    for (const Case& c : {Case{1, 257, 1, 64, 0}, Case{1, 8, 1, 32, 0}, Case{1, 8, 1, 264, 0},
                          Case{1, 8, 1, 64, 1}, Case{1, 8, 2, 68, 0}}) {
        Data<bfloat16> data(c);
        data.fill();
        set_saved(data);
        EXPECT_THROW(backward(data, false, Variant::mma), Error);
    }
    Data<bfloat16> data(mma_cases[0]);
    data.fill();
    set_saved(data);
    EXPECT_THROW(backward(data, true, Variant::mma), Error);
    EXPECT_THROW(forward(data, Variant::mma), Error);
}

}  // namespace
}  // namespace ito::kernels
