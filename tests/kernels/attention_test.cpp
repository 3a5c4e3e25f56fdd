#include "kernels/common/error.h"
#include "tests/kernels/attention_data.h"
#include "tests/support/back_end.h"

namespace ito::kernels {
namespace {

using namespace attention_test;

#if ITO_TEST_CUDA
// One token, one head, heads of odd widths and of each padded width, tokens that end a tile and just miss it, several tiles,
// rows on 16 bytes (gaps of 0 and 8) and rows that are not. The last head is too wide for all but the naive variant.
const Case cases[] = {{1, 1, 1, 8, 0},    {2, 7, 3, 9, 5},    {2, 49, 2, 8, 0},   {1, 64, 2, 16, 8},
                      {1, 70, 1, 64, 0},  {1, 130, 1, 20, 1}, {1, 65, 1, 32, 8},  {1, 30, 1, 77, 3},
                      {1, 33, 1, 128, 0}, {1, 35, 1, 256, 0}, {1, 17, 1, 201, 2}, {1, 9, 1, 300, 0}};
#else
// One token, one head, odd sizes, several blocks of queries (300, 700), many heads.
const Case cases[] = {{1, 1, 1, 8, 0},    {2, 7, 3, 9, 5},    {3, 49, 1, 32, 0},  {2, 196, 1, 64, 3},
                      {1, 16, 2, 256, 0}, {1, 300, 2, 40, 1}, {1, 700, 1, 24, 0}, {2, 64, 4, 16, 2}};
#endif

bool possible(Variant variant, const Case& c) {
    return !on_cuda || c.head_dim <= 256 || variant == Variant::naive;
}

template <class T>
class Attention : public AttentionTest<T> {};
TYPED_TEST_SUITE(Attention, testing::BackEndTypes);

TYPED_TEST(Attention, ForwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cases) {
        Data<T> data(c);
        data.fill();
        const Data<double> exact = exact_forward(data);
        bool first = true;
        this->for_each_way([&] {
            for (const Variant variant : this->variants()) {
                // The naive variant in every schedule: RepeatsToTheBit.
                if (!possible(variant, c) || (variant == Variant::naive && !first)) continue;
                SCOPED_TRACE(text(c, variant));
                Data<T> result = data;
                this->forward(result, variant);
                this->expect_forward(result, exact, variant);
            }
            first = false;
        });
    }
}

TYPED_TEST(Attention, BackwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cases)
        for (const bool accumulate : {false, true}) {
            Data<T> data(c);
            data.fill();
            set_saved(data);
            if (accumulate) data.grad_qkv.fill_normal(3);
            const Data<double> exact = exact_backward(data, accumulate);
            bool first = true;
            this->for_each_way([&] {
                for (const Variant variant : this->variants()) {
                    const bool once = variant == Variant::naive || (on_cuda && accumulate);
                    if (!possible(variant, c) || (once && !first)) continue;
                    SCOPED_TRACE(text(c, variant) + (accumulate ? ", added" : ""));
                    Data<T> result = data;
                    this->backward(result, accumulate, variant);
                    this->expect_gradients(result, exact, variant);
                }
                first = false;
            });
        }
}

TYPED_TEST(Attention, LogSumExpIsOptional) {
    using T = TypeParam;
    for (const Case& c : {cases[1], cases[3]})
        for (const Variant variant : this->variants()) {
            Data<T> data(c), full(c);
            data.fill(), full.fill();
            this->forward(full, variant);
            this->run([&](const Context& context, auto& on) {
                auto a = data.forward_args(on);
                a.lse = nullptr;
                ITO_TEST_LAUNCH(attention_forward, context, a, variant);
            });
            EXPECT_TRUE(bitwise_equal(data.o, full.o));
            EXPECT_TRUE(std::isnan(data.lse.at(0, 0)));
        }
}

TYPED_TEST(Attention, NegativeScale) {
    using T = TypeParam;
    for (const Variant variant : this->variants()) {
        SCOPED_TRACE(name_of(variant));
        Data<T> data(cases[4]);
        data.fill();
        data.negative_scale = true;
        const Data<double> exact = exact_forward(data);
        this->forward(data, variant);
        this->expect_forward(data, exact, variant);
    }
}

TYPED_TEST(Attention, BitwiseImageAloneEqualsImageInABatch) {
    using T = TypeParam;
    std::vector<Case> all(std::begin(cases), std::end(cases));
    if (on_cuda) all = {{0, 33, 2, 24, 0}};
    for (Case c : all)
        for (const Variant variant : this->variants()) {
            SCOPED_TRACE(text(c, variant));
            c.batch = on_cuda ? 3 : 5;
            const std::int64_t n = c.batch - 2;
            Data<T> batch(c);
            batch.fill();
            this->forward(batch, variant), this->backward(batch, false, variant);
            c.batch = 1;
            Data<T> alone(c);
            alone.qkv = rows_of(batch.qkv, n * c.tokens, c.tokens);
            alone.grad_o = rows_of(batch.grad_o, n * c.tokens, c.tokens);
            this->forward(alone, variant), this->backward(alone, false, variant);
            EXPECT_TRUE(bitwise_equal(alone.o, rows_of(batch.o, n * c.tokens, c.tokens)));
            EXPECT_TRUE(bitwise_equal(alone.lse, rows_of(batch.lse, n * c.heads, c.heads)));
            EXPECT_TRUE(bitwise_equal(alone.grad_qkv, rows_of(batch.grad_qkv, n * c.tokens, c.tokens)));
        }
}

TYPED_TEST(Attention, EmptyBatch) {
    using T = TypeParam;
    for (const Variant variant : this->variants())
        for (const Case& c : {Case{0, 16, 2, 8, 0}, Case{2, 0, 2, 8, 0}})
            for (const bool accumulate : {false, true}) {
                Data<T> data(c);
                data.fill();
                this->forward(data, variant), this->backward(data, accumulate, variant);
            }
}

TYPED_TEST(Attention, ToleranceSeesAPlantedError) {
    using T = TypeParam;
    Data<T> data(cases[1]);
    data.fill();
    set_saved(data);
    Data<T> result = data;
    this->backward(result);
    const double more = this->roundings(Variant::best);
    Data<T> wrong = data;
    wrong.grad_o.at(3, 2) = {};  // as if one channel of one query had been missed
    EXPECT_GT(testing::worst_error(result.grad_qkv, exact_backward(wrong).grad_qkv),
              4e-5 + 10 * more * rounding<T>);
    this->forward(result);
    Data<double> other_scale = in_float64(data);
    auto a = other_scale.forward_args(testing::HostArguments{});
    a.scale *= on_cuda ? 1.02 : 1 + 1e-4;
    ref::attention_forward(Context{}, a);
    EXPECT_GT(testing::relative_l2(result.o, other_scale.o), 2e-6 + more * rounding<T>);
}

#if !ITO_TEST_CUDA

// Scores of several hundred: exp overflows unless the maximum is taken out, and most weights vanish.
TYPED_TEST(Attention, LargeScores) {
    this->for_each_way([&] {
        Data<float> data(cases[3]);
        data.fill(12);
        const Data<double> exact = exact_forward(data);
        this->forward(data);
        // The rounding of a score of 500 is an error of 3e-5 in its weight.
        expect_close(data.o, exact.o, 1e-4, 3e-3);
        expect_close(data.lse, exact.lse, 1e-6, 3e-6);
    });
}

TEST(AttentionCpu, RefusesAContextWithoutScratch) {
    Data<float> data(cases[2]);
    data.fill();
    testing::HostArguments on;
    EXPECT_THROW(cpu::attention_forward(Context{}, data.forward_args(on)), Error);
    EXPECT_THROW(cpu::attention_backward(Context{}, data.backward_args(on)), Error);
}

TEST(AttentionCpu, BitwiseForAnyNumberOfThreads) {
    const auto run = [](Data<float>& data, int threads) {
        const testing::ContextWithScratch context(threads);
        cpu::attention_forward(context, data.forward_args(testing::HostArguments{}));
        cpu::attention_backward(context, data.backward_args(testing::HostArguments{}));
    };
    for (const Case& c : cases) {
        Data<float> one(c);
        one.fill();
        run(one, 1);
        for (const int threads : {2, 4}) {
            Data<float> many(c);
            many.fill();
            run(many, threads);
            EXPECT_TRUE(bitwise_equal(one.o, many.o));
            EXPECT_TRUE(bitwise_equal(one.lse, many.lse));
            EXPECT_TRUE(bitwise_equal(one.grad_qkv, many.grad_qkv));
        }
    }
}

TEST(AttentionOracle, GradientsMatchFiniteDifferences) {
    Data<double> data(Case{2, 5, 2, 3, 1});
    data.fill();
    const auto loss = [&] {
        ref::attention_forward(Context{}, data.forward_args(testing::HostArguments{}));
        double sum = 0;
        for (std::int64_t r = 0; r < data.o.rows(); ++r)
            for (std::int64_t c = 0; c < data.o.columns(); ++c) sum += data.o.at(r, c) * data.grad_o.at(r, c);
        return sum;
    };
    loss();
    ref::attention_backward(Context{}, data.backward_args(testing::HostArguments{}));
    Strided<double> numeric(data.qkv.rows(), data.qkv.columns(), data.qkv.columns());
    for (std::int64_t r = 0; r < numeric.rows(); ++r)
        for (std::int64_t c = 0; c < numeric.columns(); ++c) {
            const double h = 1e-5, kept = data.qkv.at(r, c);
            data.qkv.at(r, c) = kept + h;
            const double above = loss();
            data.qkv.at(r, c) = kept - h;
            const double below = loss();
            data.qkv.at(r, c) = kept;
            numeric.at(r, c) = (above - below) / (2 * h);
        }
    expect_close(data.grad_qkv, numeric, 1e-8, 1e-7);
    data.grad_qkv.at(0, 2) *= 1 + 1e-4;
    EXPECT_GT(testing::relative_l2(data.grad_qkv, numeric), 1e-8);
}

#endif

}  // namespace
}  // namespace ito::kernels
