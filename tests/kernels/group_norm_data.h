#pragma once
// Inputs and outputs of a GroupNorm, forward and backward, and the fixture of its tests on the CPU and on CUDA.

#include <string>
#include <vector>

#include "kernels/group_norm/group_norm.h"
#include "tests/support/back_end.h"

namespace ito::kernels::group_norm_test {

using testing::bitwise_equal;
using testing::Strided;

struct Case {
    std::int64_t batch, pixels, channels, groups;
    bool shift, scale_shift, silu;
    float dropout;
    std::int64_t gap;
};

#if ITO_TEST_CUDA
// Every access width (gaps of 0, 16, 4, 2 and 1), slices that end oddly, groups narrower and wider than a vector, than a
// sector and than a block is wide, images of one pixel and of several pieces.
inline const Case cases[] = {
    {2, 49, 32, 32, false, false, true, 0.1f, 0}, {3, 25, 32, 8, true, false, true, 0, 3},
    {2, 9, 5, 1, false, true, true, 0.3f, 1},     {1, 1, 3, 1, true, true, false, 0, 0},
    {2, 33, 96, 1, true, true, true, 0.1f, 4},    {2, 70, 48, 16, false, false, false, 0.5f, 0},
    {1, 200, 64, 16, true, false, true, 0.2f, 8}, {1, 130, 130, 10, true, true, true, 0.1f, 2},
    {5, 16, 1, 1, false, false, true, 0.1f, 1},   {2, 37, 17, 17, true, true, true, 0.25f, 0},
    {1, 3, 1100, 1, true, true, true, 0.1f, 1},   {1, 70, 200, 2, true, false, true, 0.1f, 16},
    {1, 3, 1104, 1, true, true, true, 0.1f, 0},
};
#else
// Channels per group from 1 to 96, cut vectors, images of one pixel, an image that is cut into pieces.
inline const Case cases[] = {
    {2, 49, 32, 32, false, false, true, 0.1f, 0},   {3, 25, 32, 8, true, false, true, 0, 3},
    {2, 9, 5, 1, false, true, true, 0.3f, 1},       {1, 1, 3, 1, true, true, false, 0, 0},
    {2, 33, 96, 1, true, true, true, 0.1f, 5},      {2, 70, 48, 16, false, false, false, 0.5f, 0},
    {1, 200, 64, 32, true, false, false, 0, 4},     {2, 130, 130, 10, true, true, true, 0.1f, 2},
    {1, 1100, 256, 32, true, false, true, 0.1f, 0}, {1, 1030, 270, 90, false, true, true, 0.2f, 7},
    {5, 16, 1, 1, false, false, true, 0.1f, 1},     {2, 37, 17, 17, true, true, true, 0.25f, 0},
};
#endif

inline std::string text(const Case& c, Variant variant) {
    return std::string(name_of(variant)) + ": " + std::to_string(c.batch) + "x" + std::to_string(c.pixels) +
           "x" + std::to_string(c.channels) + ", " + std::to_string(c.groups) + " groups";
}

/// Every tensor of a forward and a backward call, in type T.
template <class T>
struct Data {
    GroupNormShape shape;
    Case c;
    std::uint64_t step = 7;
    Strided<T> x, shift, scale_shift, grad_y, y, grad_x, grad_shift, grad_scale_shift;
    Strided<accum_t<T>> gamma, beta, mean, rstd, grad_gamma, grad_beta;
    std::uint64_t first_sample = 11;

    explicit Data(const Case& a)
        : shape{a.batch, a.pixels, a.channels, a.groups},
          c(a),
          x(a.batch * a.pixels, a.channels, a.channels + a.gap),
          shift(a.batch, a.channels, a.channels + a.gap),
          scale_shift(a.batch, 2 * a.channels, 2 * a.channels + a.gap),
          grad_y(a.batch * a.pixels, a.channels, a.channels + 2 * a.gap),
          y(a.batch * a.pixels, a.channels, a.channels + 3 * a.gap),
          grad_x(a.batch * a.pixels, a.channels, a.channels + a.gap),
          grad_shift(a.batch, a.channels, a.channels + a.gap),
          grad_scale_shift(a.batch, 2 * a.channels, 2 * a.channels + a.gap),
          gamma(1, a.channels, a.channels),
          beta(1, a.channels, a.channels),
          mean(a.batch, a.groups, a.groups),
          rstd(a.batch, a.groups, a.groups),
          grad_gamma(1, a.channels, a.channels),
          grad_beta(1, a.channels, a.channels) {}

    void fill(double mean_of_x = 0.7) {
        x.fill_normal(1, mean_of_x, 1.3), gamma.fill_normal(2, 1, 0.3), beta.fill_normal(3, 0.2, 0.5);
        shift.fill_normal(4, 0.3, 0.7), scale_shift.fill_normal(5, 0.1, 0.4), grad_y.fill_normal(6, 0.4, 1);
    }
    void fill_gradients() {
        grad_x.fill_normal(7), grad_gamma.fill_normal(8), grad_beta.fill_normal(9);
        grad_shift.fill_normal(10), grad_scale_shift.fill_normal(11);
    }

    /// Arguments of a launch: `on` says where their tensors are (support/back_end.h).
    template <class On>
    GroupNormForward<T> forward_args(On&& on) {
        GroupNormForward<T> a;
        set_inputs(on, a);
        a.y = on.out(y), a.mean = on.out(mean).data, a.rstd = on.out(rstd).data;
        return a;
    }
    template <class On>
    GroupNormBackward<T> backward_args(On&& on, bool accumulate = false) {
        GroupNormBackward<T> a;
        set_inputs(on, a);
        a.mean = on.in(mean).data, a.rstd = on.in(rstd).data, a.grad_y = on.in(grad_y);
        a.grad_x = on.out(grad_x), a.grad_gamma = on.out(grad_gamma).data;
        a.grad_beta = on.out(grad_beta).data;
        if (c.shift) a.grad_shift = on.out(grad_shift);
        if (c.scale_shift) a.grad_scale_shift = on.out(grad_scale_shift);
        a.accumulate_x = a.accumulate_gamma = a.accumulate_beta = accumulate;
        a.accumulate_shift = a.accumulate_scale_shift = accumulate;
        return a;
    }

  private:
    template <class On, class Args>
    void set_inputs(On& on, Args& a) const {
        a.shape = shape;
        a.x = on.in(x), a.gamma = on.in(gamma).data, a.beta = on.in(beta).data;
        if (c.shift) a.shift = on.in(shift);
        if (c.scale_shift) a.scale_shift = on.in(scale_shift);
        a.silu = c.silu, a.dropout = c.dropout;
        a.mask = {42, Purpose::dropout, 3, first_sample, on.value(step)};
    }
};

template <class T>
Data<double> in_float64(const Data<T>& from) {
    Data<double> to(from.c);
    to.x = from.x.template as<double>(), to.gamma = from.gamma.template as<double>();
    to.beta = from.beta.template as<double>(), to.shift = from.shift.template as<double>();
    to.scale_shift = from.scale_shift.template as<double>(), to.grad_y = from.grad_y.template as<double>();
    to.mean = from.mean.template as<double>(), to.rstd = from.rstd.template as<double>();
    to.grad_x = from.grad_x.template as<double>(), to.grad_gamma = from.grad_gamma.template as<double>();
    to.grad_beta = from.grad_beta.template as<double>(),
    to.grad_shift = from.grad_shift.template as<double>();
    to.grad_scale_shift = from.grad_scale_shift.template as<double>();
    to.first_sample = from.first_sample, to.step = from.step;
    return to;
}

inline Data<double>& with_exact_forward(Data<double>& exact) {
    ref::group_norm_forward(Context{}, exact.forward_args(testing::HostArguments{}));
    return exact;
}
inline Data<double>& with_exact_backward(Data<double>& exact, bool accumulate = false) {
    ref::group_norm_backward(Context{}, exact.backward_args(testing::HostArguments{}, accumulate));
    return exact;
}
template <class T>
Data<double> exact_forward(const Data<T>& data) {
    Data<double> exact = in_float64(data);
    return with_exact_forward(exact);
}
template <class T>
Data<double> exact_backward(const Data<T>& data, bool accumulate = false) {
    Data<double> exact = in_float64(data);
    return with_exact_backward(exact, accumulate);
}

template <class T>
class GroupNormTest : public testing::BackEnd<T> {
  protected:
    /// Half a unit in the last place, relative: what rounding the result once costs.
    static constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

    static std::vector<Variant> variants() {
        return testing::BackEnd<T>::variants(cuda::group_norm_variants);
    }
    /// For each instruction set on the CPU; once on CUDA, where other tests try the schedules.
    template <class Body>
    static void for_each_target_or_once(Body&& body) {
        testing::on_cuda ? body() : testing::BackEnd<T>::for_each_way(body);
    }
    void forward(Data<T>& data, Variant variant = Variant::best) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(group_norm_forward, context, data.forward_args(on), variant);
        });
    }
    void backward(Data<T>& data, bool accumulate = false, Variant variant = Variant::best) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(group_norm_backward, context, data.backward_args(on, accumulate), variant);
        });
    }
    /// Inputs, with mean and rstd as forward saves them.
    static Data<T> filled(const Case& c) {
        Data<T> data(c);
        data.fill();
        const Data<double> exact = exact_forward(data);
        data.mean = exact.mean.template as<accum_t<T>>(), data.rstd = exact.rstd.template as<accum_t<T>>();
        return data;
    }
    static void expect_same_gradients(const Data<T>& a, const Data<T>& b) {
        EXPECT_TRUE(bitwise_equal(a.grad_x, b.grad_x));
        EXPECT_TRUE(bitwise_equal(a.grad_gamma, b.grad_gamma));
        EXPECT_TRUE(bitwise_equal(a.grad_beta, b.grad_beta));
        EXPECT_TRUE(!a.c.shift || bitwise_equal(a.grad_shift, b.grad_shift));
        EXPECT_TRUE(!a.c.scale_shift || bitwise_equal(a.grad_scale_shift, b.grad_scale_shift));
    }
};

}  // namespace ito::kernels::group_norm_test
