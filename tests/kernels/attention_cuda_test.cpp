// What CUDA's attention alone is held to; attention_test.cpp has what both devices are.
#include <cuda_runtime_api.h>

#include "kernels/common/error.h"
#include "tests/kernels/attention_scores.h"

namespace ito::kernels {
namespace {

using namespace attention_test;
using testing::for_each_profile;
using testing::for_each_schedule;

/// What attention.h says of backward, for two tiles of tokens.
double backward_traffic(Variant variant) {
    return variant == Variant::tensor ? 9 + 4 * 2 : 9 + 7 * 2;
}

template <class T>
class AttentionCuda : public AttentionTest<T> {
  protected:
    /// `best` is one of these, or naive for a head that is too wide.
    static std::vector<Variant> fast_variants() {
        return has_tensor<T> ? std::vector{Variant::tiled, Variant::tensor} : std::vector{Variant::tiled};
    }
};
TYPED_TEST_SUITE(AttentionCuda, testing::BackEndTypes);

// bfloat16: float32 sums, rounded once to nearest. Tolerances do not tell that from truncation, which biases a training.
TYPED_TEST(AttentionCuda, RoundsOnce) {
    using T = TypeParam;
    if constexpr (std::is_same_v<T, bfloat16>) {
        Data<T> data(Case{1, 70, 1, 64, 0});
        data.fill();
        set_saved(data);
        const Data<double> exact = exact_forward(data);
        const auto others = [](const Strided<T>& got, const Strided<double>& oracle) {
            std::int64_t count = 0;
            for (std::int64_t r = 0; r < got.rows(); ++r)
                for (std::int64_t c = 0; c < got.columns(); ++c)
                    count += got.at(r, c).bits != bfloat16(static_cast<float>(oracle.at(r, c))).bits;
            return static_cast<double>(count) / static_cast<double>(got.rows() * got.columns());
        };
        for (const Variant variant : {Variant::naive, Variant::tiled}) {
            SCOPED_TRACE(name_of(variant));
            Data<T> result = data;
            this->forward(result, variant), this->backward(result, false, variant);
            EXPECT_LE(others(result.o, exact.o), 0.01);
            data.o = result.o;
            EXPECT_LE(others(result.grad_qkv, exact_backward(data).grad_qkv), 0.01);
        }
    }
}

// Maxima that grow from tile to tile, shrink, or jump, from -10000 to 10000: what was summed so far is scaled down to nothing,
// or what comes counts nothing. exp would overflow if the maximum were not taken out.
TYPED_TEST(AttentionCuda, LargeScores) {
    using T = TypeParam;
    const auto scores = {
        +[](std::int64_t j) { return -9984.0 + 128 * static_cast<double>(j); },
        +[](std::int64_t j) { return 9984.0 - 128 * static_cast<double>(j); },
        +[](std::int64_t j) { return j % 64 == 63 ? 100.0 * static_cast<double>(j / 64) - 9000 : -10000.0; },
        +[](std::int64_t j) { return static_cast<double>(j % 7) + static_cast<double>(j / 64); },
        +[](std::int64_t) { return -10000.0; },
    };
    for (const auto& of : scores) {
        Data<T> data = with_scores<T>(130, of);
        set_saved(data);
        const Data<double> forward = exact_forward(data), backward = exact_backward(data);
        for (const Variant variant : this->variants()) {
            SCOPED_TRACE(name_of(variant));
            Data<T> result = data;
            this->forward(result, variant);
            this->expect_forward(result, forward, variant);
            // dQ = dS K, and dS adds up to zero: where all keys share so large a part, the rounding of dS is what is left of it.
            if (variant == Variant::tensor && of(0) == of(1)) continue;
            this->backward(result, false, variant);
            // The log-sum-exp of a score of 10000 is off by up to half of 0.001, and with it every weight.
            const double more = this->roundings(variant);
            // A few tokens have all of the gradient: the worst is many times the root mean square.
            expect_close(result.grad_qkv, backward.grad_qkv, 6e-4 + more * rounding<T>,
                         2e-2 + 40 * more * rounding<T>);
        }
    }
}

// A NaN among the keys of one head reaches all queries of that head, and nothing else.
TYPED_TEST(AttentionCuda, NanStaysInItsHead) {
    using T = TypeParam;
    for (const Variant variant : this->variants()) {
        SCOPED_TRACE(name_of(variant));
        Data<T> data(Case{2, 20, 2, 16, 0});
        data.fill();
        data.qkv.at(25, 32 + 3) = Strided<T>::poison();  // in the keys of head 0 of image 1
        this->forward(data, variant);
        for (std::int64_t r = 0; r < 40; ++r)
            for (std::int64_t c = 0; c < 32; ++c)
                ASSERT_EQ(std::isnan(convert<float>(data.o.at(r, c))), r >= 20 && c < 16) << r << ", " << c;
    }
}

// No result depends on the order in which threads and blocks run.
TYPED_TEST(AttentionCuda, RepeatsToTheBit) {
    using T = TypeParam;
    for (const Case& c : {Case{2, 7, 3, 9, 5}, Case{1, 130, 1, 20, 1}})
        for (const Variant variant : this->variants()) {
            SCOPED_TRACE(text(c, variant));
            Data<T> first(c);
            first.fill();
            const Data<T> inputs = first;
            this->forward(first, variant), this->backward(first, false, variant);
            for_each_schedule([&] {
                Data<T> again = inputs;
                this->forward(again, variant), this->backward(again, false, variant);
                EXPECT_TRUE(bitwise_equal(again.o, first.o));
                EXPECT_TRUE(bitwise_equal(again.lse, first.lse));
                EXPECT_TRUE(bitwise_equal(again.grad_qkv, first.grad_qkv));
            });
        }
}

// The widest heads need most of the shared memory that a block may have; an RTX 4090 has the least.
TYPED_TEST(AttentionCuda, EveryDeviceHoldsTheWidestHeads) {
    using T = TypeParam;
    Data<T> data(Case{1, 48, 1, 256, 0});
    data.fill();
    set_saved(data);
    const Data<double> forward = exact_forward(data), backward = exact_backward(data);
    for_each_profile([&] {
        for (const Variant variant : this->fast_variants()) {
            SCOPED_TRACE(name_of(variant));
            Data<T> result = data;
            this->forward(result, variant);
            this->expect_forward(result, forward, variant);
            result.o = data.o, result.lse = data.lse;
            this->backward(result, false, variant);
            this->expect_gradients(result, backward, variant);
        }
    });
}

// Each byte once per launch, whole sectors, and no bank conflicts, as attention.h says. The remainder is lse and row sums: a
// float a row beside head_dim elements.
TYPED_TEST(AttentionCuda, MovesTheBytesThatItSays) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    for (const std::int64_t head_dim : {32, 128})
        for (const Variant variant : this->fast_variants()) {
            SCOPED_TRACE(std::string(name_of(variant)) + ", " + std::to_string(head_dim) + " channels");
            Data<T> data(Case{1, 128, 1, head_dim, 0});
            data.fill();
            const double u = 128.0 * static_cast<double>(head_dim * sizeof(T));
            const auto unique = [](const vgpu::Counters& total) {
                return static_cast<double>(total.unique_bytes_read + total.unique_bytes_written);
            };
            const auto sectors = [](const vgpu::Counters& total) {
                return 32 * static_cast<double>(total.global_load_sectors + total.global_store_sectors);
            };
            const auto forward = testing::counted_total([&] { this->forward(data, variant); });
            EXPECT_LE(unique(forward), 1.1 * 4 * u);
            EXPECT_LE(sectors(forward), 1.1 * 6 * u);  // two tiles
            EXPECT_EQ(forward.bank_conflicts, 0u);
            const auto backward = testing::counted_total([&] { this->backward(data, false, variant); });
            EXPECT_LE(unique(backward), 1.1 * 13 * u);
            EXPECT_LE(sectors(backward), 1.15 * backward_traffic(variant) * u);
            EXPECT_EQ(backward.bank_conflicts, 0u);
        }
}

// Bit for bit, which no other variant is.
TYPED_TEST(AttentionCuda, BestIsWhatTheHeaderSays) {
    using T = TypeParam;
    for (const Case& c : {Case{2, 49, 2, 8, 0}, Case{1, 9, 1, 300, 0}}) {
        Data<T> best(c), named(c);
        best.fill(), named.fill();
        const Variant variant = c.head_dim > 256 ? Variant::naive
                                : has_tensor<T>  ? Variant::tensor
                                                 : Variant::tiled;
        this->forward(best, Variant::best), this->forward(named, variant);
        EXPECT_TRUE(bitwise_equal(best.o, named.o));
        this->backward(best, false, Variant::best), this->backward(named, false, variant);
        EXPECT_TRUE(bitwise_equal(best.grad_qkv, named.grad_qkv));
    }
}

TYPED_TEST(AttentionCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Data<T> data(Case{2, 7, 3, 9, 5}), wide(Case{1, 9, 1, 300, 0});
    data.fill(), wide.fill();
    EXPECT_THROW(this->forward(data, Variant::resident), Error);
    EXPECT_THROW(this->backward(data, false, Variant::fused), Error);
    EXPECT_THROW(this->forward(wide, Variant::tiled), Error);
    EXPECT_THROW(this->backward(wide, false, Variant::tiled), Error);
    if (!has_tensor<T>) {
        EXPECT_THROW(this->forward(data, Variant::tensor), Error);
    }
    testing::DeviceArguments on;
    EXPECT_THROW(cuda::attention_backward(this->without_scratch(), data.backward_args(on)), Error);
}

}  // namespace
}  // namespace ito::kernels
