#include <cuda_runtime_api.h>

#include "kernels/common/error.h"
#include "tests/kernels/attention_on_cuda.h"

namespace ito::kernels {
namespace {

using namespace attention_test;
using testing::bitwise_equal;
using testing::for_each_profile;
using testing::for_each_schedule;

// One token, one head, heads of odd widths and of each padded width, tokens that end a tile and just miss it, several tiles,
// rows on 16 bytes (gaps of 0 and 8) and rows that are not. The last head is too wide for all but the naive variant.
const Case cuda_cases[] = {{1, 1, 1, 8, 0},    {2, 7, 3, 9, 5},    {2, 49, 2, 8, 0},   {1, 64, 2, 16, 8},
                           {1, 70, 1, 64, 0},  {1, 130, 1, 20, 1}, {1, 65, 1, 32, 8},  {1, 30, 1, 77, 3},
                           {1, 33, 1, 128, 0}, {1, 35, 1, 256, 0}, {1, 17, 1, 201, 2}, {1, 9, 1, 300, 0}};

/// `best` is one of these, or naive for the head that is too wide.
template <class T>
const std::vector<Variant> fast_variants =
    has_tensor<T> ? std::vector{Variant::tiled, Variant::tensor} : std::vector{Variant::tiled};
template <class T>
const std::vector<Variant> all_variants =
    has_tensor<T> ? std::vector{Variant::naive, Variant::tiled, Variant::tensor}
                  : std::vector{Variant::naive, Variant::tiled};

bool possible(Variant variant, const Case& c) {
    return c.head_dim <= 256 || variant == Variant::naive;
}

/// What attention.h says of backward, for two tiles of tokens.
double backward_traffic(Variant variant) {
    return variant == Variant::tensor ? 9 + 4 * 2 : 9 + 7 * 2;
}

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(AttentionCuda, Types);

TYPED_TEST(AttentionCuda, ForwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cuda_cases) {
        Data<T> data(c);
        data.fill();
        const Data<double> exact = this->exact_forward(data);
        const auto check = [&](Variant variant) {
            if (!possible(variant, c)) return;
            SCOPED_TRACE(text(c, variant));
            Data<T> result = data;
            this->forward(result, variant);
            this->expect_forward(result, exact, variant);
        };
        check(Variant::naive);  // in every schedule: RepeatsToTheBit
        for_each_schedule([&] {
            for (const Variant variant : fast_variants<T>) check(variant);
        });
    }
}

TYPED_TEST(AttentionCuda, BackwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cuda_cases)
        for (const bool accumulate : {false, true}) {
            Data<T> data(c);
            data.fill();
            this->set_saved(data);
            if (accumulate) data.grad_qkv.fill_normal(3);
            const Data<double> exact = this->exact_backward(data, accumulate);
            const auto check = [&](Variant variant) {
                if (!possible(variant, c)) return;
                SCOPED_TRACE(text(c, variant) + (accumulate ? ", added" : ""));
                Data<T> result = data;
                this->backward(result, accumulate, variant);
                this->expect_gradients(result, exact, variant);
            };
            if (accumulate) {
                for (const Variant variant : all_variants<T>) check(variant);
                continue;
            }
            check(Variant::naive);  // in every schedule: RepeatsToTheBit
            for_each_schedule([&] {
                for (const Variant variant : fast_variants<T>) check(variant);
            });
        }
}

// bfloat16: float32 sums, rounded once to nearest. Tolerances do not tell that from truncation, which biases a training.
TYPED_TEST(AttentionCuda, RoundsOnce) {
    using T = TypeParam;
    if constexpr (std::is_same_v<T, bfloat16>) {
        Data<T> data(cuda_cases[4]);
        data.fill();
        this->set_saved(data);
        const Data<double> exact = this->exact_forward(data);
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
            EXPECT_LE(others(result.grad_qkv, this->exact_backward(data).grad_qkv), 0.01);
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
        this->set_saved(data);
        const Data<double> forward = this->exact_forward(data), backward = this->exact_backward(data);
        for (const Variant variant : all_variants<T>) {
            SCOPED_TRACE(name_of(variant));
            Data<T> result = data;
            this->forward(result, variant);
            this->expect_forward(result, forward, variant);
            // dQ = dS K, and dS adds up to zero: where all keys share so large a part, the rounding of dS is what is left of it.
            if (variant == Variant::tensor && of(0) == of(1)) continue;
            this->backward(result, false, variant);
            // The log-sum-exp of a score of 10000 is off by up to half of 0.001, and with it every weight.
            const double more = this->rounds_weights(variant) ? 2 : 1;
            // A few tokens have all of the gradient: the worst is many times the root mean square.
            expect_close(result.grad_qkv, backward.grad_qkv, 6e-4 + more * rounding<T>,
                         2e-2 + 40 * more * rounding<T>);
        }
    }
}

// A NaN among the keys of one head reaches all queries of that head, and nothing else.
TYPED_TEST(AttentionCuda, NanStaysInItsHead) {
    using T = TypeParam;
    for (const Variant variant : all_variants<T>) {
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

TYPED_TEST(AttentionCuda, LogSumExpIsOptional) {
    using T = TypeParam;
    for (const Variant variant : all_variants<T>) {
        Data<T> data(cuda_cases[3]), full(cuda_cases[3]);
        data.fill(), full.fill();
        this->forward(full, variant);
        OnCuda<T> device(data);
        auto a = device.forward_args();
        a.lse = nullptr;
        cuda::attention_forward(this->context(), a, variant);
        device.forward_back();
        EXPECT_TRUE(bitwise_equal(data.o, full.o));
        EXPECT_TRUE(std::isnan(data.lse.at(0, 0)));
    }
}

TYPED_TEST(AttentionCuda, NegativeScale) {
    using T = TypeParam;
    for (const Variant variant : all_variants<T>) {
        SCOPED_TRACE(name_of(variant));
        Data<T> data(cuda_cases[4]);
        data.fill();
        data.negative_scale = true;
        const Data<double> exact = this->exact_forward(data);
        this->forward(data, variant);
        this->expect_forward(data, exact, variant);
    }
}

// No result depends on the order in which threads and blocks run.
TYPED_TEST(AttentionCuda, RepeatsToTheBit) {
    using T = TypeParam;
    for (const Case& c : {cuda_cases[1], cuda_cases[5]})
        for (const Variant variant : all_variants<T>) {
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

TYPED_TEST(AttentionCuda, ImageAloneEqualsImageInABatch) {
    using T = TypeParam;
    for (const Variant variant : all_variants<T>) {
        SCOPED_TRACE(name_of(variant));
        Data<T> batch(Case{3, 33, 2, 24, 0}), alone(Case{1, 33, 2, 24, 0});
        batch.fill();
        this->forward(batch, variant), this->backward(batch, false, variant);
        alone.qkv = rows_of(batch.qkv, 33, 33), alone.grad_o = rows_of(batch.grad_o, 33, 33);
        this->forward(alone, variant), this->backward(alone, false, variant);
        EXPECT_TRUE(bitwise_equal(alone.o, rows_of(batch.o, 33, 33)));
        EXPECT_TRUE(bitwise_equal(alone.lse, rows_of(batch.lse, 2, 2)));
        EXPECT_TRUE(bitwise_equal(alone.grad_qkv, rows_of(batch.grad_qkv, 33, 33)));
    }
}

TYPED_TEST(AttentionCuda, EmptyBatch) {
    using T = TypeParam;
    for (const Variant variant : all_variants<T>)
        for (const Case& c : {Case{0, 16, 2, 8, 0}, Case{2, 0, 2, 8, 0}}) {
            Data<T> data(c);
            data.fill();
            this->forward(data, variant), this->backward(data, true, variant);
        }
}

// The widest heads need most of the shared memory that a block may have; an RTX 4090 has the least.
TYPED_TEST(AttentionCuda, EveryDeviceHoldsTheWidestHeads) {
    using T = TypeParam;
    Data<T> data(Case{1, 48, 1, 256, 0});
    data.fill();
    this->set_saved(data);
    const Data<double> forward = this->exact_forward(data), backward = this->exact_backward(data);
    for_each_profile([&] {
        for (const Variant variant : fast_variants<T>) {
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
        for (const Variant variant : fast_variants<T>) {
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

TYPED_TEST(AttentionCuda, ToleranceSeesAPlantedError) {
    using T = TypeParam;
    Data<T> data(cuda_cases[1]);
    data.fill();
    this->set_saved(data);
    Data<T> result = data;
    this->backward(result, false, Variant::best);
    const double more = this->rounds_weights(Variant::best) ? 2 : 1;
    // As if one channel of one query had been missed.
    Data<double> wrong = in_float64(data);
    wrong.grad_o.at(3, 2) = 0;
    ref::attention_backward(Context{}, wrong.backward_args(false));
    EXPECT_GT(testing::worst_error(result.grad_qkv, wrong.grad_qkv), 4e-5 + 10 * more * rounding<T>);
    this->forward(result, Variant::best);
    wrong = in_float64(data);
    auto a = wrong.forward_args();
    a.scale *= 1.02;
    ref::attention_forward(Context{}, a);
    EXPECT_GT(testing::relative_l2(result.o, wrong.o), 2e-6 + more * rounding<T>);
}

// Bit for bit, which no other variant is.
TYPED_TEST(AttentionCuda, BestIsWhatTheHeaderSays) {
    using T = TypeParam;
    for (const Case& c : {cuda_cases[2], cuda_cases[11]}) {
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
    Data<T> data(cuda_cases[1]), wide(cuda_cases[11]);
    data.fill(), wide.fill();
    EXPECT_THROW(this->forward(data, Variant::resident), Error);
    EXPECT_THROW(this->backward(data, false, Variant::fused), Error);
    EXPECT_THROW(this->forward(wide, Variant::tiled), Error);
    EXPECT_THROW(this->backward(wide, false, Variant::tiled), Error);
    if (!has_tensor<T>) {
        EXPECT_THROW(this->forward(data, Variant::tensor), Error);
    }
    const OnCuda<T> device(data);
    EXPECT_THROW(cuda::attention_backward(this->without_scratch(), device.backward_args()), Error);
}

}  // namespace
}  // namespace ito::kernels
