// GroupNorm as plain loops in float64: the formulas of group_norm.h one by one. The fast variants are tested against
// these, so nothing here is clever.

#include <cmath>
#include <vector>

#include "kernels/group_norm/group_norm.h"

namespace ito::kernels::ref {
namespace {

/// One element's way from x to y, with everything that backward needs of it.
template <class Args>
struct Element {
    double xhat, z, scale, dropout;  ///< scale: dz / d(xhat * gamma + beta); dropout: 0 or 1 / (1 - p)

    Element(const Args& a, std::int64_t n, std::int64_t p, std::int64_t c, double mean, double rstd) {
        const std::int64_t channels = a.shape.channels;
        double u = static_cast<double>(a.x[(n * a.shape.pixels + p) * a.x_stride + c]);
        if (a.shift) u += static_cast<double>(a.shift[n * a.shift_stride + c]);
        xhat = (u - mean) * rstd;
        z = xhat * static_cast<double>(a.gamma[c]) + static_cast<double>(a.beta[c]);
        scale = 1;
        if (a.scale_shift) {
            const auto* row = a.scale_shift + n * a.scale_shift_stride;
            scale = 1 + static_cast<double>(row[c]);
            z = z * scale + static_cast<double>(row[channels + c]);
        }
        dropout = 1;
        if (a.dropout > 0) {
            const std::uint64_t offset =
                philox_offset(philox_step(a.mask), static_cast<std::uint64_t>(p * channels + c));
            const std::uint32_t word =
                philox_word(a.mask.seed, philox_subsequence(a.mask, static_cast<std::uint64_t>(n)), offset);
            dropout = word < keep_threshold(a.dropout) ? 1 / (1 - static_cast<double>(a.dropout)) : 0;
        }
    }
};

double sigmoid(double z) {
    return 1 / (1 + std::exp(-z));
}

template <class T>
void write(T& to, double value, bool accumulate) {
    to = static_cast<T>(accumulate ? static_cast<double>(to) + value : value);
}

}  // namespace

template <CpuFloat T>
void group_norm_forward(const Context&, const GroupNormForward<T>& a) {
    const GroupNormShape& s = a.shape;
    const std::int64_t group_channels = s.group_channels();
    const double count = static_cast<double>(s.pixels * group_channels);
    for (std::int64_t n = 0; n < s.batch; ++n) {
        for (std::int64_t g = 0; g < s.groups; ++g) {
            const std::int64_t begin = g * group_channels, end = begin + group_channels;
            const auto u = [&](std::int64_t p, std::int64_t c) {
                const double x = static_cast<double>(a.x[(n * s.pixels + p) * a.x_stride + c]);
                return a.shift ? x + static_cast<double>(a.shift[n * a.shift_stride + c]) : x;
            };
            double sum = 0, squares = 0;
            for (std::int64_t p = 0; p < s.pixels; ++p)
                for (std::int64_t c = begin; c < end; ++c) sum += u(p, c);
            const double mean = sum / count;
            for (std::int64_t p = 0; p < s.pixels; ++p)
                for (std::int64_t c = begin; c < end; ++c) squares += (u(p, c) - mean) * (u(p, c) - mean);
            const double rstd = 1 / std::sqrt(squares / count + a.eps);
            if (a.mean) a.mean[n * s.groups + g] = static_cast<accum_t<T>>(mean);
            if (a.rstd) a.rstd[n * s.groups + g] = static_cast<accum_t<T>>(rstd);
            for (std::int64_t p = 0; p < s.pixels; ++p) {
                for (std::int64_t c = begin; c < end; ++c) {
                    const Element e(a, n, p, c, mean, rstd);
                    const double activated = a.silu ? e.z * sigmoid(e.z) : e.z;
                    a.y[(n * s.pixels + p) * a.y_stride + c] =
                        static_cast<T>(e.dropout == 0 ? 0 : activated * e.dropout);
                }
            }
        }
    }
}

template <CpuFloat T>
void group_norm_backward(const Context&, const GroupNormBackward<T>& a) {
    const GroupNormShape& s = a.shape;
    const std::int64_t group_channels = s.group_channels();
    const double count = static_cast<double>(s.pixels * group_channels);
    std::vector<double> grad_gamma(static_cast<std::size_t>(s.channels)), grad_beta(grad_gamma.size());
    std::vector<double> dz(static_cast<std::size_t>(s.pixels * group_channels)), xhat(dz.size());
    for (std::int64_t n = 0; n < s.batch; ++n) {
        for (std::int64_t g = 0; g < s.groups; ++g) {
            const std::int64_t begin = g * group_channels, end = begin + group_channels;
            const double mean = static_cast<double>(a.mean[n * s.groups + g]);
            const double rstd = static_cast<double>(a.rstd[n * s.groups + g]);
            double dxhat_mean = 0, dxhat_xhat_mean = 0;
            for (std::int64_t c = begin; c < end; ++c) {
                const double gamma = static_cast<double>(a.gamma[c]), beta = static_cast<double>(a.beta[c]);
                double sum = 0, sum_xhat = 0, scale = 1;
                for (std::int64_t p = 0; p < s.pixels; ++p) {
                    const Element e(a, n, p, c, mean, rstd);
                    const double dy = static_cast<double>(a.grad_y[(n * s.pixels + p) * a.grad_y_stride + c]);
                    const double sig = sigmoid(e.z);
                    const double d = e.dropout == 0 ? 0 : dy * e.dropout;
                    const std::size_t i = static_cast<std::size_t>(p * group_channels + c - begin);
                    dz[i] = a.silu ? d * sig * (1 + e.z * (1 - sig)) : d;
                    xhat[i] = e.xhat;
                    scale = e.scale;
                    sum += dz[i];
                    sum_xhat += dz[i] * xhat[i];
                    dz[i] *= scale * gamma;  // from here on the gradient of xhat
                }
                grad_gamma[static_cast<std::size_t>(c)] += sum_xhat * scale;
                grad_beta[static_cast<std::size_t>(c)] += sum * scale;
                if (a.grad_scale_shift) {
                    T* row = a.grad_scale_shift + n * a.grad_scale_shift_stride;
                    write(row[c], sum_xhat * gamma + sum * beta, a.accumulate_scale_shift);
                    write(row[s.channels + c], sum, a.accumulate_scale_shift);
                }
                dxhat_mean += sum * scale * gamma / count;
                dxhat_xhat_mean += sum_xhat * scale * gamma / count;
            }
            for (std::int64_t c = begin; c < end; ++c) {
                double sum = 0;
                for (std::int64_t p = 0; p < s.pixels; ++p) {
                    const std::size_t i = static_cast<std::size_t>(p * group_channels + c - begin);
                    const double du = rstd * (dz[i] - dxhat_mean - xhat[i] * dxhat_xhat_mean);
                    sum += du;
                    if (a.grad_x)
                        write(a.grad_x[(n * s.pixels + p) * a.grad_x_stride + c], du, a.accumulate_x);
                }
                if (a.grad_shift) write(a.grad_shift[n * a.grad_shift_stride + c], sum, a.accumulate_shift);
            }
        }
    }
    for (std::int64_t c = 0; c < s.channels; ++c) {
        if (a.grad_gamma) write(a.grad_gamma[c], grad_gamma[static_cast<std::size_t>(c)], a.accumulate_gamma);
        if (a.grad_beta) write(a.grad_beta[c], grad_beta[static_cast<std::size_t>(c)], a.accumulate_beta);
    }
}

template void group_norm_forward<float>(const Context&, const GroupNormForward<float>&);
template void group_norm_forward<double>(const Context&, const GroupNormForward<double>&);
template void group_norm_backward<float>(const Context&, const GroupNormBackward<float>&);
template void group_norm_backward<double>(const Context&, const GroupNormBackward<double>&);

}  // namespace ito::kernels::ref
