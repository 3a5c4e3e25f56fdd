#include <type_traits>

#include "kernels/common/error.h"
#include "tests/kernels/group_norm_data.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using namespace group_norm_test;
using testing::bitwise_equal;
using testing::expect_close;
using testing::expect_rounded;
using testing::for_each_profile;
using testing::for_each_schedule;
using testing::OnDevice;

// Every access width (gaps of 0, 16, 4, 2 and 1), slices that end oddly, groups narrower and wider than a vector, than a
// sector and than a block is wide, images of one pixel and of several pieces.
const Case cuda_cases[] = {
    {2, 49, 32, 32, false, false, true, 0.1f, 0}, {3, 25, 32, 8, true, false, true, 0, 3},
    {2, 9, 5, 1, false, true, true, 0.3f, 1},     {1, 1, 3, 1, true, true, false, 0, 0},
    {2, 33, 96, 1, true, true, true, 0.1f, 4},    {2, 70, 48, 16, false, false, false, 0.5f, 0},
    {1, 200, 64, 16, true, false, true, 0.2f, 8}, {1, 130, 130, 10, true, true, true, 0.1f, 2},
    {5, 16, 1, 1, false, false, true, 0.1f, 1},   {2, 37, 17, 17, true, true, true, 0.25f, 0},
    {1, 3, 1100, 1, true, true, true, 0.1f, 1},   {1, 70, 200, 2, true, false, true, 0.1f, 16},
    {1, 3, 1104, 1, true, true, true, 0.1f, 0},
};
const Variant all_variants[] = {Variant::naive, Variant::resident, Variant::streamed, Variant::best};

/// Half a unit in the last place, relative: what rounding the result once costs.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

/// The inputs of a Data on the device, and its outputs, which come back() into it.
template <class T>
class OnCuda {
  public:
    explicit OnCuda(Data<T>& data)
        : data_(data),
          x_(data.x),
          shift_(data.shift),
          scale_shift_(data.scale_shift),
          grad_y_(data.grad_y),
          y_(data.y),
          grad_x_(data.grad_x),
          grad_shift_(data.grad_shift),
          grad_scale_shift_(data.grad_scale_shift),
          gamma_(data.gamma),
          beta_(data.beta),
          mean_(data.mean),
          rstd_(data.rstd),
          grad_gamma_(data.grad_gamma),
          grad_beta_(data.grad_beta),
          step_(&data.step, 1) {}

    GroupNormForward<T> forward_args() const {
        GroupNormForward<T> a = data_.forward_args();
        set_inputs(a);
        a.y = y_.view();
        return a;
    }
    GroupNormBackward<T> backward_args(bool accumulate = false) const {
        GroupNormBackward<T> a = data_.backward_args(accumulate);
        set_inputs(a);
        a.grad_y = grad_y_.view(), a.grad_x = grad_x_.view();
        a.grad_gamma = grad_gamma_.data(), a.grad_beta = grad_beta_.data();
        if (a.grad_shift) a.grad_shift = grad_shift_.view();
        if (a.grad_scale_shift) a.grad_scale_shift = grad_scale_shift_.view();
        return a;
    }
    void forward_back() { data_.y = y_.back(), data_.mean = mean_.back(), data_.rstd = rstd_.back(); }
    void backward_back() {
        data_.grad_x = grad_x_.back(), data_.grad_gamma = grad_gamma_.back();
        data_.grad_beta = grad_beta_.back();
        if (data_.c.shift) data_.grad_shift = grad_shift_.back();
        if (data_.c.scale_shift) data_.grad_scale_shift = grad_scale_shift_.back();
    }

  private:
    template <class Args>
    void set_inputs(Args& a) const {
        a.x = x_.view(), a.gamma = gamma_.data(), a.beta = beta_.data();
        if (a.shift) a.shift = shift_.view();
        if (a.scale_shift) a.scale_shift = scale_shift_.view();
        a.mean = mean_.data(), a.rstd = rstd_.data();
        a.mask.step = device_value(step_.data());
    }

    Data<T>& data_;
    OnDevice<T> x_, shift_, scale_shift_, grad_y_, y_, grad_x_, grad_shift_, grad_scale_shift_;
    OnDevice<accum_t<T>> gamma_, beta_, mean_, rstd_, grad_gamma_, grad_beta_;
    testing::DeviceArray<std::uint64_t> step_;
};

std::string text(const Case& c, Variant variant) {
    return std::string(name_of(variant)) + ": " + std::to_string(c.batch) + "x" + std::to_string(c.pixels) +
           "x" + std::to_string(c.channels) + ", " + std::to_string(c.groups) + " groups";
}

template <class T>
class GroupNormCuda : public testing::CudaTest {
  protected:
    void forward(Data<T>& data, Variant variant) {
        OnCuda<T> device(data);
        const Context c = context();
        cuda::group_norm_forward(c, device.forward_args(), variant);
        device.forward_back();
    }
    void backward(Data<T>& data, bool accumulate, Variant variant) {
        OnCuda<T> device(data);
        const Context c = context();
        cuda::group_norm_backward(c, device.backward_args(accumulate), variant);
        device.backward_back();
    }
    /// Mean and rstd as forward saves them, from the oracle.
    static void set_statistics(Data<T>& data) {
        Data<double> exact = in_float64(data);
        ref::group_norm_forward(Context{}, exact.forward_args());
        data.mean = exact.mean.template as<accum_t<T>>(), data.rstd = exact.rstd.template as<accum_t<T>>();
    }
    static void expect_same(const Data<T>& a, const Data<T>& b) {
        EXPECT_TRUE(bitwise_equal(a.grad_x, b.grad_x));
        EXPECT_TRUE(bitwise_equal(a.grad_gamma, b.grad_gamma));
        EXPECT_TRUE(bitwise_equal(a.grad_beta, b.grad_beta));
        EXPECT_TRUE(!a.c.shift || bitwise_equal(a.grad_shift, b.grad_shift));
        EXPECT_TRUE(!a.c.scale_shift || bitwise_equal(a.grad_scale_shift, b.grad_scale_shift));
    }
};

using Types = ::testing::Types<float, bfloat16>;
TYPED_TEST_SUITE(GroupNormCuda, Types);

TYPED_TEST(GroupNormCuda, ForwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cuda_cases) {
        Data<T> data(c);
        data.fill();
        Data<double> exact = in_float64(data);
        ref::group_norm_forward(Context{}, exact.forward_args());
        for_each_schedule([&] {
            for (const Variant variant : all_variants) {
                SCOPED_TRACE(text(c, variant));
                Data<T> result = data;
                this->forward(result, variant);
                expect_close(result.y, exact.y, 2e-7 + rounding<T>, 2e-6 + 10 * rounding<T>);
                expect_rounded(result.y, exact.y);
                // bfloat16's kernel merges in float32, by approximate reciprocals of the counts.
                constexpr double statistics = sizeof(T) == 2 ? 4 : 1;
                expect_close(result.mean, exact.mean, statistics * 1e-7, statistics * 3e-7);
                expect_close(result.rstd, exact.rstd, statistics * 2e-7, statistics * 6e-7);
            }
        });
    }
}

// A mean a thousand times the deviation: E[x^2] - E[x]^2 in float32 would leave nothing of the variance. float32 only:
// bfloat16 cannot hold such values.
TYPED_TEST(GroupNormCuda, IsAccurateFarFromZero) {
    using T = TypeParam;
    if constexpr (std::is_same_v<T, float>) {
        for (Case c : cuda_cases) {
            c.shift = false;
            Data<T> data(c);
            data.fill(1000);
            for (std::int64_t r = 0; r < data.x.rows(); ++r)  // a constant border: the first pixels mislead
                for (std::int64_t ch = 0; ch < c.channels && r % c.pixels < 4 && c.pixels > 8; ++ch)
                    data.x.at(r, ch) = 1003;
            Data<double> exact = in_float64(data);
            ref::group_norm_forward(Context{}, exact.forward_args());
            for (const Variant variant : all_variants) {
                SCOPED_TRACE(text(c, variant));
                Data<T> result = data;
                this->forward(result, variant);
                expect_close(result.y, exact.y, 4e-7, 4e-6);
                expect_close(result.rstd, exact.rstd, 3e-7, 1e-6);
            }
        }
    }
}

TYPED_TEST(GroupNormCuda, ToleranceSeesAWrongElement) {
    using T = TypeParam;
    Data<T> data(cuda_cases[0]);
    data.fill();
    Data<double> exact = in_float64(data);
    this->forward(data, Variant::best);
    ref::group_norm_forward(Context{}, exact.forward_args());
    Data<T> wrong = data;
    wrong.y.at(17, 5) =
        testing::convert<T>(testing::convert<float>(data.y.at(17, 5)) + 40 * rounding<T> + 4e-6f);
    EXPECT_GT(testing::worst_error(wrong.y, exact.y), 2e-6 + 10 * rounding<T>);
    exact.c.dropout = 0.101f;  // a mask and a factor that are only slightly different
    exact.first_sample += 1;
    ref::group_norm_forward(Context{}, exact.forward_args());
    EXPECT_GT(testing::relative_l2(data.y, exact.y), 2e-7 + rounding<T>);
}

TYPED_TEST(GroupNormCuda, ToleranceSeesAWrongGradient) {
    using T = TypeParam;
    Data<T> data(cuda_cases[7]);
    data.fill();
    this->set_statistics(data);
    Data<double> exact = in_float64(data);
    this->backward(data, false, Variant::best);
    // As if one element had been missed.
    exact.grad_y.at(3, 2) = 0;
    ref::group_norm_backward(Context{}, exact.backward_args());
    EXPECT_GT(testing::worst_error(data.grad_x, exact.grad_x), 1e-5 + 10 * rounding<T>);
    EXPECT_GT(testing::relative_l2(data.grad_beta, exact.grad_beta), 1e-6);
    EXPECT_GT(testing::relative_l2(data.grad_gamma, exact.grad_gamma), 1e-6);
}

// What is dropped is exactly 0, what is kept is not: the mask of philox/philox.h, for quads that start anywhere.
TYPED_TEST(GroupNormCuda, MaskFollowsItsDefinition) {
    using T = TypeParam;
    for (const Case& c : cuda_cases) {
        if (c.dropout == 0) continue;
        for (const Variant variant : all_variants) {
            SCOPED_TRACE(text(c, variant));
            Data<T> data(c);
            data.fill();
            this->forward(data, variant);
            for (std::int64_t r = 0; r < data.y.rows(); ++r)
                for (std::int64_t ch = 0; ch < c.channels; ++ch) {
                    const std::int64_t n = r / c.pixels, p = r % c.pixels;
                    const std::uint64_t subsequence = philox_subsequence(
                        Purpose::dropout, 3, data.first_sample + static_cast<std::uint64_t>(n));
                    const std::uint32_t word = philox_word(
                        42, subsequence, philox_offset(7, static_cast<std::uint64_t>(p * c.channels + ch)));
                    ASSERT_EQ(testing::convert<float>(data.y.at(r, ch)) != 0,
                              word < keep_threshold(c.dropout));
                }
        }
    }
}

// The mean and rstd that are saved may be left out, and nothing else changes.
TYPED_TEST(GroupNormCuda, StatisticsAreOptional) {
    using T = TypeParam;
    for (const Variant variant : all_variants) {
        Data<T> data(cuda_cases[6]), full(cuda_cases[6]);
        data.fill(), full.fill();
        this->forward(full, variant);
        OnCuda<T> device(data);
        auto a = device.forward_args();
        a.mean = a.rstd = nullptr;
        cuda::group_norm_forward(this->context(), a, variant);
        device.forward_back();
        EXPECT_TRUE(bitwise_equal(data.y, full.y));
        EXPECT_TRUE(std::isnan(data.mean.at(0, 0)));
    }
}

// No result depends on the order in which threads and blocks run.
TYPED_TEST(GroupNormCuda, ForwardRepeatsToTheBit) {
    using T = TypeParam;
    for (const Case& c : {cuda_cases[4], cuda_cases[6], cuda_cases[7]})
        for (const Variant variant : all_variants) {
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

TYPED_TEST(GroupNormCuda, BackwardMatchesFloat64) {
    using T = TypeParam;
    for (const Case& c : cuda_cases)
        for (const bool accumulate : {false, true}) {
            Data<T> data(c);
            data.fill();
            this->set_statistics(data);
            if (accumulate) data.fill_gradients();
            Data<double> exact = in_float64(data);
            ref::group_norm_backward(Context{}, exact.backward_args(accumulate));
            const auto check = [&](Variant variant) {
                SCOPED_TRACE(text(c, variant) + (accumulate ? ", added" : ""));
                Data<T> result = data;
                this->backward(result, accumulate, variant);
                // With one element a group the gradient is nothing but cancellation.
                if (c.pixels > 1) {
                    expect_close(result.grad_x, exact.grad_x, 1e-6 + rounding<T>, 1e-5 + 10 * rounding<T>);
                    expect_rounded(result.grad_x, exact.grad_x);
                }
                expect_close(result.grad_gamma, exact.grad_gamma, 1e-6, 5e-6);
                expect_close(result.grad_beta, exact.grad_beta, 1e-6, 5e-6);
                const bool shift_matters = c.channels > c.groups || accumulate;
                if (c.shift && shift_matters && c.pixels > 1)
                    expect_close(result.grad_shift, exact.grad_shift, 3e-6 + rounding<T>,
                                 2e-5 + 10 * rounding<T>);
                if (c.scale_shift) {
                    expect_close(result.grad_scale_shift, exact.grad_scale_shift, 1e-6 + rounding<T>,
                                 5e-6 + 10 * rounding<T>);
                    expect_rounded(result.grad_scale_shift, exact.grad_scale_shift);
                }
            };
            check(Variant::naive);  // in every schedule: BackwardRepeatsToTheBit
            for_each_schedule([&] {
                for (const Variant variant : {Variant::resident, Variant::streamed, Variant::best})
                    check(variant);
            });
        }
}

TYPED_TEST(GroupNormCuda, EveryGradientIsOptional) {
    using T = TypeParam;
    for (const Case& c : {cuda_cases[4], cuda_cases[5], cuda_cases[7]})
        for (const Variant variant : all_variants) {
            SCOPED_TRACE(text(c, variant));
            Data<T> full(c);
            full.fill();
            this->set_statistics(full);
            Data<T> data = full;
            this->backward(full, false, variant);
            OnCuda<T> device(data);
            for (int kept = 0; kept < 5; ++kept) {
                auto a = device.backward_args();
                if (kept != 0) a.grad_x = {};
                if (kept != 1) a.grad_gamma = nullptr;
                if (kept != 2) a.grad_beta = nullptr;
                if (kept != 3) a.grad_shift = {};
                if (kept != 4) a.grad_scale_shift = {};
                cuda::group_norm_backward(this->context(), a, variant);
            }
            device.backward_back();
            this->expect_same(data, full);
        }
}

TYPED_TEST(GroupNormCuda, BackwardRepeatsToTheBit) {
    using T = TypeParam;
    for (const Case& c : {cuda_cases[4], cuda_cases[6], cuda_cases[7]})
        for (const Variant variant : all_variants) {
            SCOPED_TRACE(text(c, variant));
            Data<T> inputs(c);
            inputs.fill();
            this->set_statistics(inputs);
            Data<T> first = inputs;
            this->backward(first, false, variant);
            for_each_schedule([&] {
                Data<T> again = inputs;
                this->backward(again, false, variant);
                this->expect_same(again, first);
            });
        }
}

// Dropping everything leaves zeros, not infinity times zero.
TYPED_TEST(GroupNormCuda, DroppingEverything) {
    using T = TypeParam;
    Case c = cuda_cases[4];
    c.dropout = 1;
    for (const Variant variant : all_variants) {
        Data<T> all(c);
        all.fill();
        this->set_statistics(all);
        this->forward(all, variant), this->backward(all, false, variant);
        for (std::int64_t r = 0; r < all.y.rows(); ++r)
            for (std::int64_t ch = 0; ch < c.channels; ++ch) {
                ASSERT_EQ(testing::convert<float>(all.y.at(r, ch)), 0);
                ASSERT_EQ(testing::convert<float>(all.grad_x.at(r, ch)), 0);
            }
    }
}

TYPED_TEST(GroupNormCuda, EmptyBatch) {
    using T = TypeParam;
    for (const bool accumulate : {false, true})
        for (const Variant variant : all_variants) {
            Case c = cuda_cases[0];
            c.batch = 0;
            Data<T> data(c);
            data.fill(), data.fill_gradients();
            const Data<T> before = data;
            this->forward(data, variant), this->backward(data, accumulate, variant);
            for (std::int64_t i = 0; i < c.channels; ++i)
                EXPECT_EQ(data.grad_gamma.at(0, i), accumulate ? before.grad_gamma.at(0, i) : 0);
        }
}

TYPED_TEST(GroupNormCuda, EmptyImages) {
    for (const bool accumulate : {false, true})
        for (const Variant variant : all_variants) {
            Case c = cuda_cases[0];
            c.pixels = 0, c.shift = c.scale_shift = true, c.gap = 3;
            Data<TypeParam> data(c);
            data.fill(), data.fill_gradients();
            const Data<TypeParam> before = data;
            this->forward(data, variant), this->backward(data, accumulate, variant);
            const auto expect_sum_of_nothing = [&](const auto& now, const auto& then) {
                for (std::int64_t n = 0; n < now.rows(); ++n)
                    for (std::int64_t i = 0; i < now.columns(); ++i)
                        ASSERT_EQ(testing::convert<float>(now.at(n, i)),
                                  accumulate ? testing::convert<float>(then.at(n, i)) : 0.0f);
            };
            expect_sum_of_nothing(data.grad_shift, before.grad_shift);
            expect_sum_of_nothing(data.grad_scale_shift, before.grad_scale_shift);
            expect_sum_of_nothing(data.grad_gamma, before.grad_gamma);
        }
}

// Slabs near each device's limit: both of x and grad_y on an H100, one on an RTX 4090, none of a larger image.
TYPED_TEST(GroupNormCuda, FitsEveryDevice) {
    using T = TypeParam;
    for_each_profile([&] {
        for (const std::int64_t pixels : {1800, 3000}) {
            const Case c{1, pixels, 64 / static_cast<std::int64_t>(sizeof(T)), 2, true, false, true, 0.1f, 0};
            Data<T> data(c);
            data.fill();
            this->set_statistics(data);
            Data<double> exact = in_float64(data);
            ref::group_norm_forward(Context{}, exact.forward_args());
            ref::group_norm_backward(Context{}, exact.backward_args());
            for (const Variant variant : {Variant::resident, Variant::best}) {
                SCOPED_TRACE(text(c, variant));
                Data<T> result = data;
                this->forward(result, variant), this->backward(result, false, variant);
                expect_close(result.y, exact.y, 2e-7 + rounding<T>, 2e-6 + 10 * rounding<T>);
                expect_close(result.grad_x, exact.grad_x, 1e-6 + rounding<T>, 1e-5 + 10 * rounding<T>);
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
    Data<T> data(cuda_cases[0]);
    data.fill();
    EXPECT_THROW(this->forward(data, Variant::vectorized), Error);
    EXPECT_THROW(this->backward(data, false, Variant::vectorized), Error);
    OnCuda<T> device(data);
    EXPECT_THROW(cuda::group_norm_forward(this->without_scratch(), device.forward_args(), Variant::streamed),
                 Error);
    EXPECT_THROW(cuda::group_norm_backward(this->without_scratch(), device.backward_args()), Error);
    // One group of 2100 channels: best is naive.
    Data<T> wide(Case{1, 2, 2100, 1, false, false, true, 0, 0});
    wide.fill();
    EXPECT_THROW(this->forward(wide, Variant::resident), Error);
    Data<double> exact = in_float64(wide);
    ref::group_norm_forward(Context{}, exact.forward_args());
    this->forward(wide, Variant::best);
    expect_close(wide.y, exact.y, 2e-7 + rounding<T>, 2e-6 + 10 * rounding<T>);
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
        Data<T> data(Case{1, 2048, 64, 16, false, false, true, 0, 0});
        data.fill();
        this->set_statistics(data);
        const auto total = testing::counted_total([&] { this->backward(data, false, variant); });
        const double bytes = 2048.0 * 64 * sizeof(T);
        EXPECT_LE(static_cast<double>(total.bytes_read + total.bytes_written), 1.1 * passes * bytes);
        EXPECT_LE(32 * static_cast<double>(total.global_load_sectors + total.global_store_sectors),
                  1.1 * passes * bytes);
        EXPECT_EQ(total.bank_conflicts, 0u);
    }
}

}  // namespace
}  // namespace ito::kernels
