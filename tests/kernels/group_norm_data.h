#pragma once
// Inputs and outputs of a GroupNorm, forward and backward, for the tests of the CPU and of CUDA.

#include "kernels/group_norm/group_norm.h"
#include "tests/support/numeric.h"

namespace ito::kernels::group_norm_test {

using testing::Strided;

struct Case {
    std::int64_t batch, pixels, channels, groups;
    bool shift, scale_shift, silu;
    float dropout;
    std::int64_t gap;
};

// Channels per group from 1 to 96, cut vectors, images of one pixel, an image that is cut into pieces.
inline const Case cases[] = {
    {2, 49, 32, 32, false, false, true, 0.1f, 0},   {3, 25, 32, 8, true, false, true, 0, 3},
    {2, 9, 5, 1, false, true, true, 0.3f, 1},       {1, 1, 3, 1, true, true, false, 0, 0},
    {2, 33, 96, 1, true, true, true, 0.1f, 5},      {2, 70, 48, 16, false, false, false, 0.5f, 0},
    {1, 200, 64, 32, true, false, false, 0, 4},     {2, 130, 130, 10, true, true, true, 0.1f, 2},
    {1, 1100, 256, 32, true, false, true, 0.1f, 0}, {1, 1030, 270, 90, false, true, true, 0.2f, 7},
    {5, 16, 1, 1, false, false, true, 0.1f, 1},     {2, 37, 17, 17, true, true, true, 0.25f, 0},
};

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

    template <class Args>
    void set_inputs(Args& a) const {
        a.shape = shape;
        a.x = x.view();
        a.gamma = gamma.data(), a.beta = beta.data();
        if (c.shift) a.shift = shift.view();
        if (c.scale_shift) a.scale_shift = scale_shift.view();
        a.silu = c.silu, a.dropout = c.dropout;
        a.mask = {42, Purpose::dropout, 3, first_sample, host_value(&step)};
    }
    GroupNormForward<T> forward_args() {
        GroupNormForward<T> a;
        set_inputs(a);
        a.y = y.view();
        a.mean = mean.data(), a.rstd = rstd.data();
        return a;
    }
    GroupNormBackward<T> backward_args(bool accumulate = false) {
        GroupNormBackward<T> a;
        set_inputs(a);
        a.mean = mean.data(), a.rstd = rstd.data();
        a.grad_y = grad_y.view();
        a.grad_x = grad_x.view();
        a.grad_gamma = grad_gamma.data(), a.grad_beta = grad_beta.data();
        if (c.shift) a.grad_shift = grad_shift.view();
        if (c.scale_shift) a.grad_scale_shift = grad_scale_shift.view();
        a.accumulate_x = a.accumulate_gamma = a.accumulate_beta = accumulate;
        a.accumulate_shift = a.accumulate_scale_shift = accumulate;
        return a;
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

template <class T>
Strided<T> rows_of(const Strided<T>& from, std::int64_t first, std::int64_t count) {
    Strided<T> rows(count, from.columns(), from.stride());
    for (std::int64_t r = 0; r < count; ++r)
        for (std::int64_t c = 0; c < from.columns(); ++c) rows.at(r, c) = from.at(first + r, c);
    return rows;
}

}  // namespace ito::kernels::group_norm_test
