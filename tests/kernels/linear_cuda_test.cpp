#include "kernels/common/choices.h"
#include "kernels/common/error.h"
#include "tests/kernels/linear_cuda_data.h"

namespace ito::kernels {
namespace {

using namespace linear_test;
using testing::bitwise_equal;
using testing::expect_close;
using testing::for_each_profile;
using testing::for_each_schedule;

const Layer layers[] = {
    {{1, 1, 1}, 0},      {{1, 64, 33}, 0},  // one row, as in sampling one image
    {{5, 7, 3}, 1},                         // all smaller than a tile and a step, rows that start anywhere
    {{16, 48, 40}, 8},                      // rows on 16 bytes with gaps
    {{66, 40, 72}, 0},                      // two tiles of rows, columns beyond a tile, a broken step
    {{67, 35, 65}, 3},                      // the same with nothing aligned
    {{37, 66, 34}, 2},                      // rows of bfloat16 on 4 bytes, of float32 on 8
    {{130, 20, 36}, 0},                     // rows of bfloat16 on 8 bytes
    {{1100, 12, 20}, 4},                    // dw in two pieces of rows
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(LinearCuda, Types);

TYPED_TEST(LinearCuda, ForwardMatchesFloat64) {
    using T = TypeParam;
    for (const Layer& layer : layers) {
        SCOPED_TRACE(this->text(layer));
        for (const Given given : all_given) {
            if (!(given.first && given.second) && layer.shape.rows > 66)
                continue;  // one large shape is enough
            Case<double> expected = filled<T>(layer).template as<double>();
            LinearKernels::oracle(expected.forward(given.first, given.second));
            this->for_each_variant([&](Variant variant) {
                Case<T> d = filled<T>(layer);
                this->forward(d, given, variant);
                // The library rounds the bias to bfloat16.
                const bool rounded = variant == Variant::cublaslt && given.first && sizeof(T) == 2;
                const double l2 = rounded ? 1e-2 : this->tolerance(l2_tolerance<T>);
                expect_close(d.y, expected.y, l2, 10 * l2);
            });
        }
    }
}

TYPED_TEST(LinearCuda, BackwardDataMatchesFloat64) {
    using T = TypeParam;
    for (const Layer& layer : layers) {
        SCOPED_TRACE(this->text(layer));
        for (const bool accumulate : {false, true}) {
            Case<T> input = filled<T>(layer);
            if (accumulate) input.grad_x.fill_normal(6);
            Case<double> expected = input.template as<double>();
            LinearKernels::oracle(expected.backward_data(accumulate));
            this->for_each_variant([&](Variant variant) {
                Case<T> d = input;
                this->backward_data(d, accumulate, variant);
                expect_close(d.grad_x, expected.grad_x, this->tolerance(l2_tolerance<T>),
                             10 * this->tolerance(l2_tolerance<T>));
            });
        }
    }
}

TYPED_TEST(LinearCuda, BackwardWeightsMatchesFloat64) {
    using T = TypeParam;
    for (const Layer& layer : layers) {
        SCOPED_TRACE(this->text(layer));
        for (const bool accumulate : {false, true}) {
            Case<T> input = filled<T>(layer);
            if (accumulate) input.grad_weight.fill_normal(6), input.grad_bias.fill_normal(7);
            Case<double> expected = input.template as<double>();
            LinearKernels::oracle(expected.backward_weights(accumulate));
            this->for_each_variant([&](Variant variant) {
                Case<T> d = input;
                this->backward_weights(d, accumulate, {}, variant);
                // float32 beside bfloat16 too
                expect_close(d.grad_weight, expected.grad_weight, this->tolerance(l2_tolerance<float>),
                             10 * this->tolerance(l2_tolerance<float>));
                expect_close(d.grad_bias, expected.grad_bias, this->tolerance(l2_tolerance<float>),
                             10 * this->tolerance(l2_tolerance<float>));
            });
        }
    }
}

TYPED_TEST(LinearCuda, GradientsThatNobodyWantsAreLeftAlone) {
    using T = TypeParam;
    Case<double> expected = filled<T>({{33, 20, 24}}).template as<double>();
    LinearKernels::oracle(expected.backward_weights(false));
    this->for_each_variant([&](Variant variant) {
        Case<T> d = filled<T>({{33, 20, 24}});
        this->backward_weights(d, false, {false, true}, variant);
        expect_close(d.grad_bias, expected.grad_bias, this->tolerance(l2_tolerance<float>),
                     10 * this->tolerance(l2_tolerance<float>));
        EXPECT_TRUE(std::isnan(d.grad_weight.at(0, 0)));
        d = filled<T>({{33, 20, 24}});
        this->backward_weights(d, false, {true, false}, variant);
        expect_close(d.grad_weight, expected.grad_weight, this->tolerance(l2_tolerance<float>),
                     10 * this->tolerance(l2_tolerance<float>));
        EXPECT_TRUE(std::isnan(d.grad_bias.at(0, 0)));
        d = filled<T>({{33, 20, 24}});
        this->backward_weights(d, false, {false, false}, variant);
        EXPECT_TRUE(std::isnan(d.grad_weight.at(0, 0)) && std::isnan(d.grad_bias.at(0, 0)));
    });
}

TYPED_TEST(LinearCuda, AnEmptyBatchHasNoGradient) {
    using T = TypeParam;
    this->for_each_variant([&](Variant variant) {
        Case<T> d = filled<T>({{0, 8, 12}});
        this->forward(d, {}, variant);
        this->backward_data(d, false, variant);
        this->backward_weights(d, false, {}, variant);
        for (std::int64_t n = 0; n < 12; ++n) {
            EXPECT_EQ(d.grad_bias.at(0, n), 0.0f);
            for (std::int64_t k = 0; k < 8; ++k) EXPECT_EQ(d.grad_weight.at(n, k), 0.0f);
        }
        d.grad_weight.fill_normal(1), d.grad_bias.fill_normal(2);
        const Case<T> before = d;
        this->backward_weights(d, true, {}, variant);
        EXPECT_TRUE(bitwise_equal(d.grad_weight, before.grad_weight));
        EXPECT_TRUE(bitwise_equal(d.grad_bias, before.grad_bias));
    });
}

TYPED_TEST(LinearCuda, ResidualMayBeTheOutput) {
    using T = TypeParam;
    this->for_each_variant([&](Variant variant) {
        Case<T> d = filled<T>({{70, 24, 40}, 4});
        this->forward(d, {}, variant);
        DeviceArguments on;
        LinearForward<T> args = d.forward_on(on);
        args.y = on.out(d.residual), args.residual = args.y;
        const Strided<T> y = d.y;
        cuda::linear_forward(this->machine(), args, variant);
        on.copy_back();
        EXPECT_TRUE(bitwise_equal(d.residual, y));
        EXPECT_TRUE(d.residual.gaps_untouched());
    });
}

/// The same bits in every order of threads and blocks, on every GPU, and at the second time.
TYPED_TEST(LinearCuda, ResultsRepeat) {
    using T = TypeParam;
    const Layer some[] = {{{70, 40, 48}, 0}, {{1030, 9, 17}, 3}};
    for (const Layer& layer : some)
        this->for_each_variant([&](Variant variant) {
            Case<T> first = filled<T>(layer);
            this->forward(first, {}, variant);
            this->backward_data(first, false, variant);
            this->backward_weights(first, false, {}, variant);
            const auto again = [&] {
                Case<T> d = filled<T>(layer);
                this->forward(d, {}, variant);
                this->backward_data(d, false, variant);
                this->backward_weights(d, false, {}, variant);
                EXPECT_TRUE(bitwise_equal(d.y, first.y));
                EXPECT_TRUE(bitwise_equal(d.grad_x, first.grad_x));
                EXPECT_TRUE(bitwise_equal(d.grad_weight, first.grad_weight));
                EXPECT_TRUE(bitwise_equal(d.grad_bias, first.grad_bias));
            };
            for_each_schedule(again);
            if (&layer == some) for_each_profile(again);
        });
}

/// So many results that they are cut into tiles of 128x64 instead of 64x32, whose rows have the same bits.
constexpr LinearShape large = {1026, 19, 930};

TYPED_TEST(LinearCuda, LargeTilesMatchFloat64) {
    using T = TypeParam;
    Case<T> d = filled<T>({large});
    Case<double> expected = d.template as<double>();
    this->forward(d, {}, Variant::tiled);
    LinearKernels::oracle(expected.forward());
    expect_close(d.y, expected.y, l2_tolerance<T>, worst_tolerance<T>);
    // dx and dw of these shapes are as large
    Case<T> data = filled<T>({{large.rows, large.out_features, large.in_features}});
    expected = data.template as<double>();
    this->backward_data(data, false, Variant::tiled);
    LinearKernels::oracle(expected.backward_data(false));
    expect_close(data.grad_x, expected.grad_x, l2_tolerance<T>, worst_tolerance<T>);
    Case<T> weights = filled<T>({{large.in_features, large.out_features, large.rows}});
    expected = weights.template as<double>();
    this->backward_weights(weights, false, {}, Variant::tiled);
    LinearKernels::oracle(expected.backward_weights(false));
    expect_close(weights.grad_weight, expected.grad_weight, l2_tolerance<float>, worst_tolerance<float>);
}

TYPED_TEST(LinearCuda, ARowDoesNotDependOnTheOthers) {
    using T = TypeParam;
    for (const Variant variant : {Variant::naive, Variant::tiled}) {
        SCOPED_TRACE(name_of(variant));
        Case<T> whole = filled<T>({large}), some = filled<T>({{3, large.in_features, large.out_features}});
        this->forward(whole, {}, variant);
        const std::int64_t first = large.rows - 4;
        for (std::int64_t m = 0; m < 3; ++m) {
            for (std::int64_t k = 0; k < large.in_features; ++k) some.x.at(m, k) = whole.x.at(first + m, k);
            for (std::int64_t n = 0; n < large.out_features; ++n)
                some.residual.at(m, n) = whole.residual.at(first + m, n);
        }
        this->forward(some, {}, variant);
        for (std::int64_t m = 0; m < 3; ++m)
            for (std::int64_t n = 0; n < large.out_features; ++n)
                ASSERT_EQ(testing::convert<float>(some.y.at(m, n)),
                          testing::convert<float>(whole.y.at(first + m, n)));
    }
}

/// Both add the same products in the same order in float32; the tensor cores add those of bfloat16 in groups.
TYPED_TEST(LinearCuda, NaiveAndTiledAgreeToTheBitInFloat32) {
    using T = TypeParam;
    if constexpr (std::is_same_v<T, float>) {
        Case<T> naive = filled<T>({{67, 35, 65}, 3}), tiled = filled<T>({{67, 35, 65}, 3});
        this->forward(naive, {}, Variant::naive), this->forward(tiled, {}, Variant::tiled);
        EXPECT_TRUE(bitwise_equal(naive.y, tiled.y));
        this->backward_data(naive, false, Variant::naive), this->backward_data(tiled, false, Variant::tiled);
        EXPECT_TRUE(bitwise_equal(naive.grad_x, tiled.grad_x));
        this->backward_weights(naive, false, {}, Variant::naive);
        this->backward_weights(tiled, false, {}, Variant::tiled);
        EXPECT_TRUE(bitwise_equal(naive.grad_weight, tiled.grad_weight));
    }
}

/// Each byte of the arguments once, and no more requests than tiles of 64x32 need: x for each of the two columns of tiles, w
/// for each of the four rows of tiles.
TYPED_TEST(LinearCuda, MovesTheLeastBytes) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts bytes";
    constexpr double size = sizeof(T), m = 256, k = 64, n = 64;
    const auto expect_counts = [](const vgpu::Counters& total, double read, double fetched, double written) {
        EXPECT_EQ(static_cast<double>(total.unique_bytes_read), read);
        EXPECT_EQ(static_cast<double>(total.unique_bytes_written), written);
        EXPECT_EQ(32.0 * static_cast<double>(total.global_load_sectors), fetched);
        EXPECT_EQ(32.0 * static_cast<double>(total.global_store_sectors), written);
        // One of the stores of bfloat16's sums, 8 bytes a lane, is split in two by the compiler.
        EXPECT_LE(total.bank_conflicts, (std::is_same_v<T, float> ? 0 : total.shared_passes / 20));
    };
    Case<T> d({static_cast<std::int64_t>(m), static_cast<std::int64_t>(k), static_cast<std::int64_t>(n)}, 0);
    d.fill();
    // A warp stores four rows of a tile, and loads the bias of their 32 columns for all four at once.
    const double bias = (m / 4) * n * 4;
    expect_counts(testing::counted_total([&] { this->forward(d, {}, Variant::tiled); }),
                  size * (m * k + k * n + m * n) + 4 * n, size * (2 * m * k + 4 * k * n + m * n) + bias,
                  size * m * n);
    expect_counts(testing::counted_total([&] { this->backward_data(d, false, Variant::tiled); }),
                  size * (m * n + k * n), size * (2 * m * n + 4 * k * n), size * m * k);
    // dw [64, 64] has one row and two columns of tiles; db reads dy again.
    expect_counts(testing::counted_total([&] { this->backward_weights(d, false, {}, Variant::tiled); }),
                  size * (m * k + 2 * m * n), size * (m * k + 2 * m * n + m * n), 4 * (k * n + n));
}

/// dw and db of one call of the library; where db is added to what is there, the column sums of the hand-written variant.
TYPED_TEST(LinearCuda, TheLibraryIsCalledOncePerProduct) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts launches";
    Case<T> d = filled<T>({{40, 24, 32}});
    const auto launches = [&](const std::function<void()>& body) {
        std::uint64_t library = 0, all = 0;
        for (const vgpu::Counters& c : testing::counted(body)) {
            all += c.launches;
            if (c.kernel == "cublasLtMatmul") library += c.launches;
        }
        EXPECT_EQ(library, 1u);
        return all;
    };
    // The bias is rounded to bfloat16 first.
    EXPECT_EQ(launches([&] { this->forward(d, {}, Variant::cublaslt); }),
              (std::is_same_v<T, float> ? 1u : 2u));
    EXPECT_EQ(launches([&] { this->backward_data(d, false, Variant::cublaslt); }), 1u);
    EXPECT_EQ(launches([&] { this->backward_weights(d, false, {}, Variant::cublaslt); }), 1u);
    EXPECT_EQ(launches([&] { this->backward_weights(d, true, {}, Variant::cublaslt); }), 2u);
    const std::size_t plans = this->plans_.size();
    this->forward(d, {}, Variant::cublaslt);
    EXPECT_EQ(this->plans_.size(), plans) << "the algorithm is chosen once for a shape";
}

/// A training step is captured once and replayed with other numbers behind the same pointers.
TYPED_TEST(LinearCuda, CanBeCapturedAndReplayed) {
    using T = TypeParam;
    const LinearShape shape{70, 40, 48};
    Case<T> d = filled<T>({shape}), other = filled<T>({shape});
    other.grad_y.fill_normal(17);
    this->for_each_variant([&](Variant variant) {
        DeviceArguments on;
        const LinearBackwardData<T> args = d.backward_data_on(on);
        const Context context = this->machine();
        auto* const stream = static_cast<cudaStream_t>(context.stream.handle);
        cuda::linear_backward_data(context, args, variant);
        cudaGraph_t captured = nullptr;
        check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
        cuda::linear_backward_data(context, args, variant);
        check_cuda(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
        const ito::cuda::Graph graph(captured);
        cudaGraphExec_t made = nullptr;
        check_cuda(cudaGraphInstantiate(&made, graph.get(), 0), "cudaGraphInstantiate");
        const ito::cuda::GraphExec replay(made);
        this->synchronize();
        check_cuda(cudaMemcpy(const_cast<T*>(args.grad_y.data), other.grad_y.data(),
                              static_cast<std::size_t>(shape.rows * shape.out_features) * sizeof(T),
                              cudaMemcpyHostToDevice),
                   "cudaMemcpy");
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        check_cuda(cudaGraphLaunch(replay.get(), stream), "cudaGraphLaunch");
        this->backward_data(other, false, variant);
        on.copy_back();
        EXPECT_TRUE(bitwise_equal(d.grad_x, other.grad_x));
    });
}

/// `best` takes the library for large products, the tiled variant where there is no handle.
TYPED_TEST(LinearCuda, BestIsTheLibraryOrTiled) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts launches";
    const auto calls_library = [&](const Context& context, const LinearShape& shape) {
        Case<T> d = filled<T>({shape});
        for (const vgpu::Counters& c :
             testing::counted([&] { layer_test::backward_data_on_cuda(context, d, false, Variant::best); }))
            if (c.kernel == "cublasLtMatmul") return true;
        return false;
    };
    const LinearShape big{256, 128, 128}, small{8, 128, 128};
    const Context with = this->machine(), without = this->context();
    EXPECT_TRUE(calls_library(with, big));
    EXPECT_FALSE(calls_library(with, small));
    EXPECT_FALSE(calls_library(without, big));
    Case<T> d = filled<T>({small});
    EXPECT_THROW(layer_test::backward_data_on_cuda(without, d, false, Variant::cublaslt), Error);
}

/// The context's math mode is for float32 alone.
TYPED_TEST(LinearCuda, RoundsToTf32WhereTheMathModeSaysSo) {
    using T = TypeParam;
    const LinearShape shape{256, 128, 128};
    const auto product = [&](MathMode math, Variant variant) {
        Case<T> d = filled<T>({shape});
        this->math_ = math;
        this->backward_data(d, false, variant);
        return d.grad_x;
    };
    const auto strict = product(MathMode::float32, Variant::cublaslt);
    EXPECT_TRUE(bitwise_equal(product(MathMode::float32, Variant::best), strict));
    const auto rounded = product(MathMode::tf32, Variant::cublaslt);
    EXPECT_TRUE(bitwise_equal(product(MathMode::tf32, Variant::best), rounded));
    EXPECT_EQ(bitwise_equal(rounded, strict), !(std::is_same_v<T, float>));
}

/// Timing changes no result, and choices that are given win over it: tiled, an algorithm of the library known by its words, one
/// that is impossible.
TYPED_TEST(LinearCuda, ChoicesAreKeptAndGiven) {
    using T = TypeParam;
    const LinearShape shape{512, 96, 100};  // more than 4 Mi multiplications
    const Case<T> inputs = filled<T>({shape});
    VariantChoices choices;
    const auto run = [&](Variant variant) {
        Case<T> d = inputs;
        d.grad_weight.fill_normal(8);
        DeviceArguments on;
        LinearBackwardWeights<T> args = d.backward_weights_on(on, true);
        args.accumulate_bias = false;
        Context context = this->machine();
        context.choices = &choices;
        cuda::linear_backward_weights(context, args, variant);
        on.copy_back();
        return d;
    };
    const auto expect_right = [&](const Case<T>& d) {
        Case<double> exact = inputs.template as<double>();
        Case<T> start = inputs;
        start.grad_weight.fill_normal(8);
        exact.grad_weight = start.grad_weight.template as<double>();
        LinearBackwardWeights<double> args = exact.backward_weights(true);
        args.accumulate_bias = false;
        LinearKernels::oracle(args);
        testing::expect_close(d.grad_weight, exact.grad_weight, 1e-5, 1e-4);
        testing::expect_close(d.grad_bias, exact.grad_bias, 2e-6, 2e-5);
    };
    expect_right(run(Variant::best));
    ASSERT_EQ(choices.all().size(), 1u);
    const std::string key = choices.all().begin()->first;
    EXPECT_EQ(key, std::string("linear_backward_weights ") +
                       (std::is_same_v<T, float> ? "float32" : "bfloat16") +
                       " 100x512 -> 96 bias accumulate");
    const auto given = [&](const std::string& variant) {
        choices.replace({{key, variant}});
        const Case<T> d = run(Variant::best);
        expect_right(d);
        return d;
    };
    EXPECT_TRUE(bitwise_equal(given("tiled").grad_weight, run(Variant::tiled).grad_weight));
    choices.set_autotune(false);
    choices.replace({});
    const Case<T> guess = run(Variant::best);
    const std::string first = choices.all().at(key);
    EXPECT_EQ(first.rfind("cublaslt ", 0), 0u) << first;
    EXPECT_TRUE(bitwise_equal(given(first).grad_weight, guess.grad_weight));
    EXPECT_TRUE(choices.take_notices().empty());
    for (const std::string& impossible : {std::string("cublaslt 1 00"), first + "0", std::string("naive")}) {
        given(impossible);
        EXPECT_EQ(choices.take_notices().size(), 1u) << impossible;
        EXPECT_EQ(choices.all().at(key), first);
    }
}

TYPED_TEST(LinearCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Case<T> d = filled<T>({{1100, 12, 20}});
    EXPECT_THROW(this->forward(d, {}, Variant::vectorized), Error);
    EXPECT_THROW(this->backward_data(d, false, Variant::resident), Error);
    EXPECT_THROW(this->backward_weights(d, false, {}, Variant::fused), Error);
    EXPECT_THROW(
        layer_test::backward_weights_on_cuda(this->without_scratch(), d, false, Variant::best, true, false),
        Error);
}

TYPED_TEST(LinearCuda, TolerancesCatchAPlantedError) {
    using T = TypeParam;
    const Layer layer{{66, 40, 72}, 0};
    Case<T> d = filled<T>(layer);
    Case<double> expected = d.template as<double>();
    const double error = std::is_same_v<T, float> ? 2e-3 : 0.5;
    expected.weight.at(7, 30) += error;
    LinearKernels::oracle(expected.forward());
    this->forward(d, {}, Variant::tiled);
    EXPECT_GT(testing::relative_l2(d.y, expected.y), l2_tolerance<T>);
    EXPECT_GT(testing::worst_error(d.y, expected.y), worst_tolerance<T>);
    expected = filled<T>(layer).template as<double>();
    expected.grad_y.at(60, 7) += std::is_same_v<T, float> ? 2e-3 : 0.5;
    LinearKernels::oracle(expected.backward_weights(false));
    this->backward_weights(d, false, {}, Variant::tiled);
    EXPECT_GT(testing::relative_l2(d.grad_weight, expected.grad_weight), l2_tolerance<float>);
    EXPECT_GT(testing::relative_l2(d.grad_bias, expected.grad_bias), l2_tolerance<float>);
}

}  // namespace
}  // namespace ito::kernels
