// What CUDA's GroupNorm alone is held to; group_norm_test.cpp has what both devices are.
#include "kernels/common/error.h"
#include "tests/kernels/group_norm_data.h"

namespace ito::kernels {
namespace {

using namespace group_norm_test;
using testing::expect_close;
using testing::for_each_profile;
using testing::for_each_schedule;

template <class T>
class GroupNormCuda : public GroupNormTest<T> {};
TYPED_TEST_SUITE(GroupNormCuda, testing::BackEndTypes);

// No result depends on the order in which threads and blocks run.
TYPED_TEST(GroupNormCuda, ForwardRepeatsToTheBit) {
    using T = TypeParam;
    for (const Case& c : {cases[4], cases[6], cases[7]})
        for (const Variant variant : this->variants()) {
            SCOPED_TRACE(text(c, variant));
            Data<T> first(c);
            first.fill();
            const Data<T> inputs = first;
            this->forward(first, variant);
            for_each_schedule([&] {
                Data<T> again = inputs;
                this->forward(again, variant);
                EXPECT_TRUE(bitwise_equal(again.y, first.y));
                EXPECT_TRUE(bitwise_equal(again.mean, first.mean));
                EXPECT_TRUE(bitwise_equal(again.rstd, first.rstd));
            });
        }
}

TYPED_TEST(GroupNormCuda, BackwardRepeatsToTheBit) {
    using T = TypeParam;
    for (const Case& c : {cases[4], cases[6], cases[7]})
        for (const Variant variant : this->variants()) {
            SCOPED_TRACE(text(c, variant));
            const Data<T> inputs = this->filled(c);
            Data<T> first = inputs;
            this->backward(first, false, variant);
            for_each_schedule([&] {
                Data<T> again = inputs;
                this->backward(again, false, variant);
                this->expect_same_gradients(again, first);
            });
        }
}

// Bytes and whole sectors against the minimum traffic, and no bank conflicts. The remainder is gamma and beta (8 bytes a channel and block) and streamed's moments of small pieces.
TYPED_TEST(GroupNormCuda, ForwardMovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    for (const auto& [variant, passes] : {std::pair{Variant::resident, 2}, std::pair{Variant::streamed, 3}}) {
        SCOPED_TRACE(name_of(variant));
        Data<T> data(Case{1, 2048, 64, 16, false, false, true, 0, 0});
        data.fill();
        const auto total = testing::counted_total([&] { this->forward(data, variant); });
        const double bytes = 2048.0 * 64 * sizeof(T);
        EXPECT_LE(static_cast<double>(total.bytes_read + total.bytes_written), 1.1 * passes * bytes);
        EXPECT_LE(32 * static_cast<double>(total.global_load_sectors + total.global_store_sectors),
                  1.1 * passes * bytes);
        EXPECT_EQ(total.bank_conflicts, 0u);
    }
}

TYPED_TEST(GroupNormCuda, BackwardMovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    // A slab is 64 KiB here. Where two do not fit beside the block's other arrays, x is read twice.
    int shared = 0;
    ASSERT_EQ(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
    const int resident = shared > (144 << 10) ? 3 : 4;
    for (const auto& [variant, passes] :
         {std::pair{Variant::resident, resident}, std::pair{Variant::streamed, 5}}) {
        SCOPED_TRACE(name_of(variant));
        Data<T> data = this->filled(Case{1, 2048, 64, 16, false, false, true, 0, 0});
        const auto total = testing::counted_total([&] { this->backward(data, false, variant); });
        const double bytes = 2048.0 * 64 * sizeof(T);
        EXPECT_LE(static_cast<double>(total.bytes_read + total.bytes_written), 1.1 * passes * bytes);
        EXPECT_LE(32 * static_cast<double>(total.global_load_sectors + total.global_store_sectors),
                  1.1 * passes * bytes);
        EXPECT_EQ(total.bank_conflicts, 0u);
    }
}

// Slabs near each device's limit: both of x and grad_y on an H100, one on an RTX 4090, none of a larger image.
TYPED_TEST(GroupNormCuda, FitsEveryDevice) {
    using T = TypeParam;
    for_each_profile([&] {
        for (const std::int64_t pixels : {1800, 3000}) {
            const Case c{1, pixels, 64 / static_cast<std::int64_t>(sizeof(T)), 2, true, false, true, 0.1f, 0};
            const Data<T> data = this->filled(c);
            Data<double> exact = exact_forward(data);
            with_exact_backward(exact);
            for (const Variant variant : {Variant::resident, Variant::best}) {
                SCOPED_TRACE(text(c, variant));
                Data<T> result = data;
                this->forward(result, variant), this->backward(result, false, variant);
                expect_close(result.y, exact.y, 2e-7 + this->rounding, 2e-6 + 10 * this->rounding);
                expect_close(result.grad_x, exact.grad_x, 1e-6 + this->rounding, 1e-5 + 10 * this->rounding);
            }
        }
    });
    // 256 KiB a slab: more than any of them has.
    Data<T> large(Case{1, 8192, 32 / static_cast<std::int64_t>(sizeof(T)), 1, false, false, true, 0, 0});
    large.fill();
    EXPECT_THROW(this->forward(large, Variant::resident), Error);
    EXPECT_THROW(this->backward(large, false, Variant::resident), Error);
}

TYPED_TEST(GroupNormCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Data<T> data(cases[0]);
    data.fill();
    EXPECT_THROW(this->forward(data, Variant::vectorized), Error);
    EXPECT_THROW(this->backward(data, false, Variant::vectorized), Error);
    testing::DeviceArguments on;
    EXPECT_THROW(cuda::group_norm_forward(this->without_scratch(), data.forward_args(on), Variant::streamed),
                 Error);
    EXPECT_THROW(cuda::group_norm_backward(this->without_scratch(), data.backward_args(on)), Error);
    // One group of 2100 channels: best is naive.
    Data<T> wide(Case{1, 2, 2100, 1, false, false, true, 0, 0});
    wide.fill();
    EXPECT_THROW(this->forward(wide, Variant::resident), Error);
    const Data<double> exact = exact_forward(wide);
    this->forward(wide, Variant::best);
    expect_close(wide.y, exact.y, 2e-7 + this->rounding, 2e-6 + 10 * this->rounding);
}

}  // namespace
}  // namespace ito::kernels
