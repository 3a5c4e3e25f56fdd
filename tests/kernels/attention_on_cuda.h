#pragma once
// Runs a case of attention_data.h on the device and compares it with the oracle: the fixture of the CUDA tests.

#include <string>
#include <type_traits>

#include "tests/kernels/attention_data.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels::attention_test {

using testing::convert;
using testing::expect_close;
using testing::OnDevice;

template <class T>
constexpr bool has_tensor = std::is_same_v<T, bfloat16>;
/// Half a unit in the last place, relative: what rounding the result once costs.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 6e-8 : 4e-3;

/// The tensors of a Data on the device; outputs come back() into it.
template <class T>
class OnCuda {
  public:
    explicit OnCuda(Data<T>& data)
        : data_(data),
          qkv_(data.qkv),
          o_(data.o),
          grad_o_(data.grad_o),
          grad_qkv_(data.grad_qkv),
          lse_(data.lse) {}

    AttentionForward<T> forward_args() const {
        return data_.forward_args(qkv_.view(), o_.view(), lse_.data());
    }
    AttentionBackward<T> backward_args(bool accumulate = false) const {
        return data_.backward_args(accumulate, qkv_.view(), o_.view(), lse_.data(), grad_o_.view(),
                                   grad_qkv_.view());
    }
    void forward_back() { data_.o = o_.back(), data_.lse = lse_.back(); }
    void backward_back() { data_.grad_qkv = grad_qkv_.back(); }

  private:
    Data<T>& data_;
    OnDevice<T> qkv_, o_, grad_o_, grad_qkv_;
    OnDevice<accum_t<T>> lse_;
};

inline std::string text(const Case& c, Variant variant) {
    return std::string(name_of(variant)) + ": " + std::to_string(c.batch) + "x" + std::to_string(c.tokens) +
           ", " + std::to_string(c.heads) + " heads of " + std::to_string(c.head_dim);
}

template <class T>
class AttentionCuda : public testing::CudaTest {
  protected:
    void forward(Data<T>& data, Variant variant) {
        OnCuda<T> device(data);
        const Context c = context();
        cuda::attention_forward(c, device.forward_args(), variant);
        device.forward_back();
    }
    void backward(Data<T>& data, bool accumulate, Variant variant) {
        OnCuda<T> device(data);
        const Context c = context();
        cuda::attention_backward(c, device.backward_args(accumulate), variant);
        device.backward_back();
    }
    /// Output and log-sum-exp as forward saves them, from the oracle.
    static void set_saved(Data<T>& data) {
        Data<double> exact = in_float64(data);
        ref::attention_forward(Context{}, exact.forward_args());
        data.o = exact.o.template as<T>(), data.lse = exact.lse.template as<accum_t<T>>();
    }
    static Data<double> exact_forward(const Data<T>& data) {
        Data<double> exact = in_float64(data);
        ref::attention_forward(Context{}, exact.forward_args());
        return exact;
    }
    static Data<double> exact_backward(const Data<T>& data, bool accumulate = false) {
        Data<double> exact = in_float64(data);
        ref::attention_backward(Context{}, exact.backward_args(accumulate));
        return exact;
    }
    /// Variants that round P and dS to bfloat16 before they multiply: errors of one rounding each, not of the result's alone.
    static bool rounds_weights(Variant variant) {
        return has_tensor<T> &&
               (variant == Variant::tensor || variant == Variant::mma || variant == Variant::best);
    }
    static void expect_forward(const Data<T>& result, const Data<double>& exact, Variant variant) {
        const double more = rounds_weights(variant) ? 2 : 1;
        expect_close(result.o, exact.o, 2e-6 + more * rounding<T>, 2e-5 + 10 * more * rounding<T>);
        expect_close(result.lse, exact.lse, 1e-6, 5e-6);
    }
    static void expect_gradients(const Data<T>& result, const Data<double>& exact, Variant variant) {
        const double more = rounds_weights(variant) ? 2 : 1;
        expect_close(result.grad_qkv, exact.grad_qkv, 4e-6 + more * rounding<T>,
                     4e-5 + 10 * more * rounding<T>);
    }
};

/// Scores that are the same number for all channels: token j has the score `of(j)` with every query, exactly.
template <class T, class Of>
Data<T> with_scores(std::int64_t tokens, Of&& of) {
    Data<T> data(Case{1, tokens, 1, 64, 0});
    data.fill();
    for (std::int64_t j = 0; j < tokens; ++j)
        for (std::int64_t c = 0; c < 64; ++c) {
            data.qkv.at(j, c) = convert<T>(c == 0 ? 8.0f : 0.0f);  // times the scale, 1/8
            data.qkv.at(j, 64 + c) = convert<T>(c == 0 ? static_cast<float>(of(j)) : 1.0f);
        }
    return data;
}

}  // namespace ito::kernels::attention_test
