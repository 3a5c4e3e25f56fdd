#pragma once
// A projection, what attention makes of it, and their gradients; and the fixture of attention's tests on the CPU and on CUDA.

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/attention/attention.h"
#include "tests/support/back_end.h"

namespace ito::kernels::attention_test {

using testing::bitwise_equal;
using testing::convert;
using testing::expect_close;
using testing::on_cuda;
using testing::Strided;

struct Case {
    std::int64_t batch, tokens, heads, head_dim, gap;
};

inline std::string text(const Case& c, Variant variant) {
    return std::string(name_of(variant)) + ": " + std::to_string(c.batch) + "x" + std::to_string(c.tokens) +
           ", " + std::to_string(c.heads) + " heads of " + std::to_string(c.head_dim);
}

/// q, k or v (part 0, 1 or 2) of a projection.
template <class T>
View<T> part_of(View<T> projection, int part) {
    projection.columns /= 3;
    projection.data += part * projection.columns;
    return projection;
}

/// q, k and v are slices of one [tokens, 3 C] projection, and so are their gradients.
template <class T>
struct Data {
    AttentionShape shape;
    Case c;
    Strided<T> qkv, o, grad_o, grad_qkv;
    Strided<accum_t<T>> lse;
    bool negative_scale = false;

    explicit Data(const Case& a)
        : shape{a.batch, a.tokens, a.heads, a.head_dim},
          c(a),
          qkv(a.batch * a.tokens, 3 * a.heads * a.head_dim, 3 * a.heads * a.head_dim + a.gap),
          o(a.batch * a.tokens, a.heads * a.head_dim, a.heads * a.head_dim + a.gap),
          grad_o(a.batch * a.tokens, a.heads * a.head_dim, a.heads * a.head_dim + 2 * a.gap),
          grad_qkv(a.batch * a.tokens, 3 * a.heads * a.head_dim, 3 * a.heads * a.head_dim + 2 * a.gap),
          lse(a.batch * a.heads, a.tokens, a.tokens) {}

    void fill(double stddev = 1.3) { qkv.fill_normal(1, 0.3, stddev), grad_o.fill_normal(2, 0.4, 1); }
    double scale() const {
        return (negative_scale ? -1 : 1) / std::sqrt(static_cast<double>(shape.head_dim));
    }

    /// Arguments of a launch: `on` says where their tensors are (support/back_end.h).
    template <class On>
    AttentionForward<T> forward_args(On&& on) {
        const View<const T> in = on.in(qkv);
        return {shape, scale(), part_of(in, 0), part_of(in, 1), part_of(in, 2), on.out(o), on.out(lse).data};
    }
    template <class On>
    AttentionBackward<T> backward_args(On&& on, bool accumulate = false) {
        const View<const T> in = on.in(qkv);
        const View<T> grad = on.out(grad_qkv);
        return {
            shape,           scale(),       part_of(in, 0),   part_of(in, 1),   part_of(in, 2),   on.in(o),
            on.in(lse).data, on.in(grad_o), part_of(grad, 0), part_of(grad, 1), part_of(grad, 2), accumulate};
    }
};

template <class T>
Data<double> in_float64(const Data<T>& from) {
    Data<double> to(from.c);
    to.qkv = from.qkv.template as<double>(), to.o = from.o.template as<double>(),
    to.lse = from.lse.template as<double>();
    to.negative_scale = from.negative_scale;
    to.grad_o = from.grad_o.template as<double>(), to.grad_qkv = from.grad_qkv.template as<double>();
    return to;
}

/// Rows [first, first + count).
template <class T>
Strided<T> rows_of(const Strided<T>& from, std::int64_t first, std::int64_t count) {
    Strided<T> rows(count, from.columns(), from.stride());
    for (std::int64_t r = 0; r < count; ++r)
        for (std::int64_t c = 0; c < from.columns(); ++c) rows.at(r, c) = from.at(first + r, c);
    return rows;
}

template <class T>
constexpr bool has_tensor = std::is_same_v<T, bfloat16>;
/// Half a unit in the last place, relative: what rounding the result once costs.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

template <class T>
Data<double> exact_forward(const Data<T>& data) {
    Data<double> exact = in_float64(data);
    ref::attention_forward(Context{}, exact.forward_args(testing::HostArguments{}));
    return exact;
}
template <class T>
Data<double> exact_backward(const Data<T>& data, bool accumulate = false) {
    Data<double> exact = in_float64(data);
    ref::attention_backward(Context{}, exact.backward_args(testing::HostArguments{}, accumulate));
    return exact;
}
/// Inputs as they are, output and log-sum-exp as forward saves them, from the oracle.
template <class T>
void set_saved(Data<T>& data) {
    const Data<double> exact = exact_forward(data);
    data.o = exact.o.template as<T>(), data.lse = exact.lse.template as<accum_t<T>>();
}

template <class T>
class AttentionTest : public testing::BackEnd<T> {
  protected:
    /// What has the CPU's one variant, or CUDA's but for `best` and `mma`, which have tests of their own.
    static std::vector<Variant> variants() {
        if (!on_cuda) return {Variant::best};
        std::vector<Variant> result = {Variant::naive, Variant::tiled};
        if (has_tensor<T>) result.push_back(Variant::tensor);
        return result;
    }
    void forward(Data<T>& data, Variant variant = Variant::best) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(attention_forward, context, data.forward_args(on), variant);
        });
    }
    void backward(Data<T>& data, bool accumulate = false, Variant variant = Variant::best) {
        this->run([&](const Context& context, auto& on) {
            ITO_TEST_LAUNCH(attention_backward, context, data.backward_args(on, accumulate), variant);
        });
    }
    /// Roundings to T in a result: one of its own on CUDA, and one of P and dS in the variants that multiply them in bfloat16.
    static double roundings(Variant variant) {
        const bool rounds_weights =
            variant == Variant::tensor || variant == Variant::mma || variant == Variant::best;
        return !on_cuda ? 0 : has_tensor<T> && rounds_weights ? 2 : 1;
    }
    static void expect_forward(const Data<T>& result, const Data<double>& exact, Variant variant) {
        const double more = roundings(variant);
        expect_close(result.o, exact.o, 2e-6 + more * rounding<T>, 2e-5 + 10 * more * rounding<T>);
        expect_close(result.lse, exact.lse, 1e-6, on_cuda ? 5e-6 : 3e-6);
    }
    static void expect_gradients(const Data<T>& result, const Data<double>& exact, Variant variant) {
        const double more = roundings(variant);
        expect_close(result.grad_qkv, exact.grad_qkv, 4e-6 + more * rounding<T>,
                     4e-5 + 10 * more * rounding<T>);
    }
};

}  // namespace ito::kernels::attention_test
