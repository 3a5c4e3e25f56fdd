#include "kernels/common/error.h"
#include "tests/kernels/attention_data.h"
#include "tests/support/scratch.h"
#include "tests/support/targets.h"

namespace ito::kernels {
namespace {

using namespace attention_test;
using testing::bitwise_equal;
using testing::ContextWithScratch;
using testing::expect_close;
using testing::for_each_target;
using testing::Strided;

// One token, one head, odd sizes, several blocks of queries (300, 700), many heads.
const Case cases[] = {{1, 1, 1, 8, 0},    {2, 7, 3, 9, 5},    {3, 49, 1, 32, 0},  {2, 196, 1, 64, 3},
                      {1, 16, 2, 256, 0}, {1, 300, 2, 40, 1}, {1, 700, 1, 24, 0}, {2, 64, 4, 16, 2}};

void run_forward(Data<float>& data, int threads = 1) {
    const ContextWithScratch context(threads);
    cpu::attention_forward(context, data.forward_args());
}

void run_backward(Data<float>& data, bool accumulate = false, int threads = 1) {
    const ContextWithScratch context(threads);
    cpu::attention_backward(context, data.backward_args(accumulate));
}

TEST(Attention, ForwardMatchesFloat64) {
    for_each_target([] {
        for (const Case& c : cases) {
            SCOPED_TRACE(::testing::Message() << c.tokens << " tokens, " << c.heads << " x " << c.head_dim);
            Data<float> data(c);
            data.fill();
            Data<double> exact = in_float64(data);
            run_forward(data);
            ref::attention_forward(Context{}, exact.forward_args());
            expect_close(data.o, exact.o, 2e-6, 2e-5);
            expect_close(data.lse, exact.lse, 1e-6, 3e-6);
        }
    });
}

// Scores of several hundred: exp overflows unless the maximum is taken out, and most weights vanish.
TEST(Attention, LargeScores) {
    for_each_target([] {
        Data<float> data(cases[3]);
        data.fill(12);
        Data<double> exact = in_float64(data);
        run_forward(data);
        ref::attention_forward(Context{}, exact.forward_args());
        // The rounding of a score of 500 is an error of 3e-5 in its weight.
        expect_close(data.o, exact.o, 1e-4, 3e-3);
        expect_close(data.lse, exact.lse, 1e-6, 3e-6);
    });
}

TEST(Attention, BackwardMatchesFloat64) {
    for_each_target([] {
        for (const Case& c : cases)
            for (const bool accumulate : {false, true}) {
                SCOPED_TRACE(::testing::Message() << c.tokens << " tokens, " << c.heads << " x " << c.head_dim
                                                  << ", accumulate " << accumulate);
                Data<float> data(c);
                data.fill();
                run_forward(data);
                if (accumulate) data.grad_qkv.fill_normal(3);
                Data<double> exact = in_float64(data);
                ref::attention_forward(Context{}, exact.forward_args());
                run_backward(data, accumulate);
                ref::attention_backward(Context{}, exact.backward_args(accumulate));
                expect_close(data.grad_qkv, exact.grad_qkv, 4e-6, 4e-5);
            }
    });
}

TEST(Attention, ToleranceSeesAWrongScale) {
    Data<float> data(cases[2]);
    data.fill();
    Data<double> exact = in_float64(data);
    run_forward(data);
    auto wrong = exact.forward_args();
    wrong.scale *= 1 + 1e-4;
    ref::attention_forward(Context{}, wrong);
    EXPECT_GT(testing::relative_l2(data.o, exact.o), 2e-6);
}

TEST(Attention, LogSumExpIsOptional) {
    Data<float> with(cases[1]), without(cases[1]);
    with.fill(), without.fill();
    run_forward(with);
    auto a = without.forward_args();
    a.lse = nullptr;
    const ContextWithScratch context;
    cpu::attention_forward(context, a);
    EXPECT_TRUE(bitwise_equal(with.o, without.o));
}

TEST(Attention, EmptyBatch) {
    Data<float> data(Case{0, 16, 2, 8, 0});
    run_forward(data), run_backward(data);
}

TEST(Attention, RefusesAContextWithoutScratch) {
    Data<float> data(cases[2]);
    data.fill();
    const Context context;
    EXPECT_THROW(cpu::attention_forward(context, data.forward_args()), Error);
    EXPECT_THROW(cpu::attention_backward(context, data.backward_args(false)), Error);
}

TEST(Attention, BitwiseForAnyNumberOfThreads) {
    for (const Case& c : cases) {
        Data<float> one(c);
        one.fill();
        run_forward(one), run_backward(one);
        for (const int threads : {2, 4}) {
            Data<float> many(c);
            many.fill();
            run_forward(many, threads), run_backward(many, false, threads);
            EXPECT_TRUE(bitwise_equal(one.o, many.o));
            EXPECT_TRUE(bitwise_equal(one.lse, many.lse));
            EXPECT_TRUE(bitwise_equal(one.grad_qkv, many.grad_qkv));
        }
    }
}

TEST(Attention, ImageAloneEqualsImageInABatch) {
    for (Case c : cases) {
        c.batch = 5;
        Data<float> batch(c);
        batch.fill();
        run_forward(batch, 2), run_backward(batch, false, 2);
        const std::int64_t n = 3;
        Case single = c;
        single.batch = 1;
        Data<float> alone(single);
        alone.qkv = rows_of(batch.qkv, n * c.tokens, c.tokens);
        alone.grad_o = rows_of(batch.grad_o, n * c.tokens, c.tokens);
        run_forward(alone), run_backward(alone);
        EXPECT_TRUE(bitwise_equal(alone.o, rows_of(batch.o, n * c.tokens, c.tokens)));
        EXPECT_TRUE(bitwise_equal(alone.lse, rows_of(batch.lse, n * c.heads, c.heads)));
        EXPECT_TRUE(bitwise_equal(alone.grad_qkv, rows_of(batch.grad_qkv, n * c.tokens, c.tokens)));
    }
}

TEST(Attention, GradientsMatchFiniteDifferences) {
    Data<double> data(Case{2, 5, 2, 3, 1});
    data.fill();
    const auto loss = [&] {
        ref::attention_forward(Context{}, data.forward_args());
        double sum = 0;
        for (std::int64_t r = 0; r < data.o.rows(); ++r)
            for (std::int64_t c = 0; c < data.o.columns(); ++c) sum += data.o.at(r, c) * data.grad_o.at(r, c);
        return sum;
    };
    loss();
    ref::attention_backward(Context{}, data.backward_args(false));
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

}  // namespace
}  // namespace ito::kernels
