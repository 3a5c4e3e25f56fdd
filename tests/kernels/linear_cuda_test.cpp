#include "kernels/runtime/error.h"
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
            Data<double> expected = Data<T>(layer).as_double();
            this->oracle_forward(expected, given);
            this->for_each_version([&](Version version) {
                Data<T> d(layer);
                this->forward(d, given, version);
                // The library rounds the bias to bfloat16.
                const bool rounded = version == Version::vendor && given.first && sizeof(T) == 2;
                const double l2 = rounded ? 1e-2 : this->tolerance(version, l2_tolerance<T>);
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
            Data<T> input(layer);
            if (accumulate) input.grad_x.fill_normal(6);
            Data<double> expected = input.as_double();
            this->oracle_backward_data(expected, accumulate);
            this->for_each_version([&](Version version) {
                Data<T> d = input;
                this->backward_data(d, accumulate, version);
                expect_close(d.grad_x, expected.grad_x, this->tolerance(version, l2_tolerance<T>),
                             10 * this->tolerance(version, l2_tolerance<T>));
            });
        }
    }
}

TYPED_TEST(LinearCuda, BackwardWeightsMatchesFloat64) {
    using T = TypeParam;
    for (const Layer& layer : layers) {
        SCOPED_TRACE(this->text(layer));
        for (const bool accumulate : {false, true}) {
            Data<T> input(layer);
            if (accumulate) input.grad_weight.fill_normal(6), input.grad_bias.fill_normal(7);
            Data<double> expected = input.as_double();
            this->oracle_backward_weights(expected, accumulate);
            this->for_each_version([&](Version version) {
                Data<T> d = input;
                this->backward_weights(d, accumulate, {}, version);
                // float32 beside bfloat16 too
                expect_close(d.grad_weight, expected.grad_weight,
                             this->tolerance(version, l2_tolerance<float>),
                             10 * this->tolerance(version, l2_tolerance<float>));
                expect_close(d.grad_bias, expected.grad_bias, this->tolerance(version, l2_tolerance<float>),
                             10 * this->tolerance(version, l2_tolerance<float>));
            });
        }
    }
}

TYPED_TEST(LinearCuda, GradientsThatNobodyWantsAreLeftAlone) {
    using T = TypeParam;
    Data<double> expected = Data<T>({33, 20, 24}, 0).as_double();
    this->oracle_backward_weights(expected, false);
    this->for_each_version([&](Version version) {
        Data<T> d({33, 20, 24}, 0);
        this->backward_weights(d, false, {false, true}, version);
        expect_close(d.grad_bias, expected.grad_bias, this->tolerance(version, l2_tolerance<float>),
                     10 * this->tolerance(version, l2_tolerance<float>));
        EXPECT_TRUE(std::isnan(d.grad_weight.at(0, 0)));
        d = Data<T>({33, 20, 24}, 0);
        this->backward_weights(d, false, {true, false}, version);
        expect_close(d.grad_weight, expected.grad_weight, this->tolerance(version, l2_tolerance<float>),
                     10 * this->tolerance(version, l2_tolerance<float>));
        EXPECT_TRUE(std::isnan(d.grad_bias.at(0, 0)));
        d = Data<T>({33, 20, 24}, 0);
        this->backward_weights(d, false, {false, false}, version);
        EXPECT_TRUE(std::isnan(d.grad_weight.at(0, 0)) && std::isnan(d.grad_bias.at(0, 0)));
    });
}

TYPED_TEST(LinearCuda, AnEmptyBatchHasNoGradient) {
    using T = TypeParam;
    this->for_each_version([&](Version version) {
        Data<T> d({0, 8, 12}, 0);
        this->forward(d, {}, version);
        this->backward_data(d, false, version);
        this->backward_weights(d, false, {}, version);
        for (std::int64_t n = 0; n < 12; ++n) {
            EXPECT_EQ(d.grad_bias.at(0, n), 0.0f);
            for (std::int64_t k = 0; k < 8; ++k) EXPECT_EQ(d.grad_weight.at(n, k), 0.0f);
        }
        d.grad_weight.fill_normal(1), d.grad_bias.fill_normal(2);
        const Data<T> before = d;
        this->backward_weights(d, true, {}, version);
        EXPECT_TRUE(bitwise_equal(d.grad_weight, before.grad_weight));
        EXPECT_TRUE(bitwise_equal(d.grad_bias, before.grad_bias));
    });
}

TYPED_TEST(LinearCuda, ResidualMayBeTheOutput) {
    using T = TypeParam;
    this->for_each_version([&](Version version) {
        Data<T> d({70, 24, 40}, 4);
        this->forward(d, {}, version);
        const OnDevice<T> x(d.x), weight(d.weight), residual(d.residual);
        const OnDevice<master_t<T>> bias(d.bias);
        cuda::linear_forward(
            this->machine(),
            LinearForward<T>{d.shape, x.data(), d.x.pitch(), weight.data(), bias.data(), residual.data(),
                             d.residual.pitch(), residual.data(), d.residual.pitch()},
            version);
        const Pitched<T> in_place = residual.back();
        EXPECT_TRUE(bitwise_equal(in_place, d.y));
        EXPECT_TRUE(in_place.gaps_untouched());
    });
}

/// The same bits in every order of threads and blocks, on every GPU, and at the second time.
TYPED_TEST(LinearCuda, ResultsRepeat) {
    using T = TypeParam;
    const Layer some[] = {{{70, 40, 48}, 0}, {{1030, 9, 17}, 3}};
    for (const Layer& layer : some)
        this->for_each_version([&](Version version) {
            Data<T> first(layer);
            this->forward(first, {}, version);
            this->backward_data(first, false, version);
            this->backward_weights(first, false, {}, version);
            const auto again = [&] {
                Data<T> d(layer);
                this->forward(d, {}, version);
                this->backward_data(d, false, version);
                this->backward_weights(d, false, {}, version);
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
    Data<T> d(large, 0);
    Data<double> expected = d.as_double();
    this->forward(d, {}, Version::tiled);
    this->oracle_forward(expected, {});
    expect_close(d.y, expected.y, l2_tolerance<T>, worst_tolerance<T>);
    // dx and dw of these shapes are as large
    Data<T> data({large.rows, large.out_features, large.in_features}, 0);
    expected = data.as_double();
    this->backward_data(data, false, Version::tiled);
    this->oracle_backward_data(expected, false);
    expect_close(data.grad_x, expected.grad_x, l2_tolerance<T>, worst_tolerance<T>);
    Data<T> weights({large.in_features, large.out_features, large.rows}, 0);
    expected = weights.as_double();
    this->backward_weights(weights, false, {}, Version::tiled);
    this->oracle_backward_weights(expected, false);
    expect_close(weights.grad_weight, expected.grad_weight, l2_tolerance<float>, worst_tolerance<float>);
}

TYPED_TEST(LinearCuda, ARowDoesNotDependOnTheOthers) {
    using T = TypeParam;
    for (const Version version : {Version::naive, Version::tiled}) {
        SCOPED_TRACE(name_of(version));
        Data<T> whole(large, 0), some({3, large.in_features, large.out_features}, 0);
        this->forward(whole, {}, version);
        const std::int64_t first = large.rows - 4;
        for (std::int64_t m = 0; m < 3; ++m) {
            for (std::int64_t k = 0; k < large.in_features; ++k) some.x.at(m, k) = whole.x.at(first + m, k);
            for (std::int64_t n = 0; n < large.out_features; ++n)
                some.residual.at(m, n) = whole.residual.at(first + m, n);
        }
        this->forward(some, {}, version);
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
        Data<T> naive({67, 35, 65}, 3), tiled({67, 35, 65}, 3);
        this->forward(naive, {}, Version::naive), this->forward(tiled, {}, Version::tiled);
        EXPECT_TRUE(bitwise_equal(naive.y, tiled.y));
        this->backward_data(naive, false, Version::naive), this->backward_data(tiled, false, Version::tiled);
        EXPECT_TRUE(bitwise_equal(naive.grad_x, tiled.grad_x));
        this->backward_weights(naive, false, {}, Version::naive);
        this->backward_weights(tiled, false, {}, Version::tiled);
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
    Data<T> d({static_cast<std::int64_t>(m), static_cast<std::int64_t>(k), static_cast<std::int64_t>(n)}, 0);
    // A warp stores four rows of a tile, and loads the bias of their 32 columns for all four at once.
    const double bias = (m / 4) * n * 4;
    expect_counts(testing::counted_total([&] { this->forward(d, {}, Version::tiled); }),
                  size * (m * k + k * n + m * n) + 4 * n, size * (2 * m * k + 4 * k * n + m * n) + bias,
                  size * m * n);
    expect_counts(testing::counted_total([&] { this->backward_data(d, false, Version::tiled); }),
                  size * (m * n + k * n), size * (2 * m * n + 4 * k * n), size * m * k);
    // dw [64, 64] has one row and two columns of tiles; db reads dy again.
    expect_counts(testing::counted_total([&] { this->backward_weights(d, false, {}, Version::tiled); }),
                  size * (m * k + 2 * m * n), size * (m * k + 2 * m * n + m * n), 4 * (k * n + n));
}

/// dw and db of one call of the library; where db is added to what is there, the column sums of the hand-written version.
TYPED_TEST(LinearCuda, TheLibraryIsCalledOncePerProduct) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts launches";
    Data<T> d({40, 24, 32}, 0);
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
    EXPECT_EQ(launches([&] { this->forward(d, {}, Version::vendor); }), (std::is_same_v<T, float> ? 1u : 2u));
    EXPECT_EQ(launches([&] { this->backward_data(d, false, Version::vendor); }), 1u);
    EXPECT_EQ(launches([&] { this->backward_weights(d, false, {}, Version::vendor); }), 1u);
    EXPECT_EQ(launches([&] { this->backward_weights(d, true, {}, Version::vendor); }), 2u);
    const std::size_t plans = this->plans_.size();
    this->forward(d, {}, Version::vendor);
    EXPECT_EQ(this->plans_.size(), plans) << "the algorithm is chosen once for a shape";
}

/// A training step is captured once and replayed with other numbers behind the same pointers.
TYPED_TEST(LinearCuda, CanBeCapturedAndReplayed) {
    using T = TypeParam;
    const LinearShape shape{70, 40, 48};
    Data<T> d(shape, 0), other(shape, 0);
    other.grad_y.fill_normal(17);
    this->for_each_version([&](Version version) {
        const OnDevice<T> grad_y(d.grad_y), weight(d.weight), grad_x(d.grad_x);
        const Context context = this->machine();
        auto* const stream = static_cast<cudaStream_t>(context.stream.handle);
        const LinearBackwardData<T> args{shape,         grad_y.data(), d.grad_y.pitch(),
                                         weight.data(), grad_x.data(), d.grad_x.pitch()};
        cuda::linear_backward_data(context, args, version);
        cudaGraph_t captured = nullptr;
        check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
        cuda::linear_backward_data(context, args, version);
        check_cuda(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
        const ito::cuda::Graph graph(captured);
        cudaGraphExec_t made = nullptr;
        check_cuda(cudaGraphInstantiate(&made, graph.get(), 0), "cudaGraphInstantiate");
        const ito::cuda::GraphExec replay(made);
        this->synchronize();
        check_cuda(cudaMemcpy(grad_y.data(), other.grad_y.data(),
                              static_cast<std::size_t>(shape.rows * shape.out_features) * sizeof(T),
                              cudaMemcpyHostToDevice),
                   "cudaMemcpy");
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        check_cuda(cudaGraphLaunch(replay.get(), stream), "cudaGraphLaunch");
        this->backward_data(other, false, version);
        EXPECT_TRUE(bitwise_equal(grad_x.back(), other.grad_x));
    });
}

/// `best` takes the library for large products, the tiled version where there is no handle.
TYPED_TEST(LinearCuda, BestIsTheLibraryOrTiled) {
    using T = TypeParam;
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts launches";
    const auto calls_library = [&](const Context& context, const LinearShape& shape) {
        Data<T> d(shape, 0);
        const OnDevice<T> grad_y(d.grad_y), weight(d.weight), grad_x(d.grad_x);
        for (const vgpu::Counters& c : testing::counted([&] {
                 cuda::linear_backward_data(context, {shape, grad_y.data(), d.grad_y.pitch(), weight.data(),
                                                      grad_x.data(), d.grad_x.pitch(), false});
             }))
            if (c.kernel == "cublasLtMatmul") return true;
        return false;
    };
    const LinearShape big{256, 128, 128}, small{8, 128, 128};
    const Context with = this->machine(), without = this->context();
    EXPECT_TRUE(calls_library(with, big));
    EXPECT_FALSE(calls_library(with, small));
    EXPECT_FALSE(calls_library(without, big));
    Data<T> d(small, 0);
    const OnDevice<T> grad_y(d.grad_y), weight(d.weight), grad_x(d.grad_x);
    EXPECT_THROW(cuda::linear_backward_data(without,
                                            {small, grad_y.data(), d.grad_y.pitch(), weight.data(),
                                             grad_x.data(), d.grad_x.pitch(), false},
                                            Version::vendor),
                 Error);
}

/// The context's math mode is for float32 and for `best` alone.
TYPED_TEST(LinearCuda, BestRoundsToTf32WhereTheMathModeSaysSo) {
    using T = TypeParam;
    const LinearShape shape{256, 128, 128};
    const auto product = [&](MathMode math, Version version) {
        Data<T> d(shape, 0);
        const OnDevice<T> grad_y(d.grad_y), weight(d.weight), grad_x(d.grad_x);
        Context context = this->machine();
        context.math = math;
        cuda::linear_backward_data(
            context,
            {shape, grad_y.data(), d.grad_y.pitch(), weight.data(), grad_x.data(), d.grad_x.pitch(), false},
            version);
        return grad_x.back();
    };
    const auto strict = product(MathMode::float32, Version::vendor);
    EXPECT_TRUE(bitwise_equal(product(MathMode::float32, Version::best), strict));
    EXPECT_TRUE(bitwise_equal(product(MathMode::tf32, Version::vendor), strict));
    const auto best = product(MathMode::tf32, Version::best);
    if constexpr (std::is_same_v<T, float>) {
        EXPECT_TRUE(bitwise_equal(best, product(MathMode::float32, Version::vendor_tf32)));
        EXPECT_FALSE(bitwise_equal(best, strict));
    } else {
        EXPECT_TRUE(bitwise_equal(best, strict));
    }
}

TYPED_TEST(LinearCuda, RefusesWhatItDoesNotHave) {
    using T = TypeParam;
    Data<T> d({1100, 12, 20}, 0);
    EXPECT_THROW(this->forward(d, {}, Version::vectorized), Error);
    EXPECT_THROW(this->backward_data(d, false, Version::resident), Error);
    if (!std::is_same_v<T, float>) {
        EXPECT_THROW(this->forward(d, {}, Version::vendor_tf32), Error);
    }
    EXPECT_THROW(this->backward_weights(d, false, {}, Version::fused), Error);
    const OnDevice<T> x(d.x), grad_y(d.grad_y);
    const OnDevice<master_t<T>> grad_weight(d.grad_weight);
    const LinearBackwardWeights<T> args{.shape = d.shape,
                                        .x = x.data(),
                                        .x_pitch = d.x.pitch(),
                                        .grad_y = grad_y.data(),
                                        .grad_y_pitch = d.grad_y.pitch(),
                                        .grad_weight = grad_weight.data()};
    EXPECT_THROW(cuda::linear_backward_weights(this->without_scratch(), args), Error);
}

TYPED_TEST(LinearCuda, TolerancesCatchAPlantedError) {
    using T = TypeParam;
    const Layer layer{{66, 40, 72}, 0};
    Data<T> d(layer);
    Data<double> expected = d.as_double();
    const double error = std::is_same_v<T, float> ? 2e-3 : 0.5;
    expected.weight.at(7, 30) += error;
    this->oracle_forward(expected, {});
    this->forward(d, {}, Version::tiled);
    EXPECT_GT(testing::relative_l2(d.y, expected.y), l2_tolerance<T>);
    EXPECT_GT(testing::worst_error(d.y, expected.y), worst_tolerance<T>);
    expected = Data<T>(layer).as_double();
    expected.grad_y.at(60, 7) += std::is_same_v<T, float> ? 2e-3 : 0.5;
    this->oracle_backward_weights(expected, false);
    this->backward_weights(d, false, {}, Version::tiled);
    EXPECT_GT(testing::relative_l2(d.grad_weight, expected.grad_weight), l2_tolerance<float>);
    EXPECT_GT(testing::relative_l2(d.grad_bias, expected.grad_bias), l2_tolerance<float>);
}

}  // namespace
}  // namespace ito::kernels
