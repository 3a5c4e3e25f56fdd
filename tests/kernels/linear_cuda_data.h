#pragma once
// A linear layer with its gradients, on the host and on the device, for the tests of its CUDA kernels.

#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "core/cuda/library_handles.h"
#include "kernels/common/plan_cache.h"
#include "kernels/linear/linear.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels::linear_test {

using testing::OnDevice;
using testing::Strided;

/// Relative L2 of a result that is rounded to T after float32 sums.
template <class T>
constexpr double l2_tolerance = std::is_same_v<T, float> ? 2e-6 : 4e-3;
template <class T>
constexpr double worst_tolerance = 10 * l2_tolerance<T>;

struct Layer {
    LinearShape shape;
    std::int64_t gap;  ///< between rows of x, y and their gradients
};

template <class T>
struct Data {
    using Master = accum_t<T>;

    explicit Data(const Layer& layer) : Data(layer.shape, layer.gap) {}
    Data(const LinearShape& s, std::int64_t gap)
        : shape(s),
          x(s.rows, s.in_features, s.in_features + gap),
          weight(s.out_features, s.in_features, s.in_features),
          bias(1, s.out_features, s.out_features),
          residual(s.rows, s.out_features, s.out_features + 2 * gap),
          y(s.rows, s.out_features, s.out_features + gap),
          grad_y(y),
          grad_x(x),
          grad_weight(s.out_features, s.in_features, s.in_features),
          grad_bias(bias) {
        x.fill_normal(1);
        weight.fill_normal(2, 0.02, 0.5);
        bias.fill_normal(3);
        residual.fill_normal(4);
        grad_y.fill_normal(5, 0.3);
    }

    Data<double> as_double() const {
        Data<double> copy(shape, 0);
        copy.x = x.template as<double>(), copy.weight = weight.template as<double>();
        copy.bias = bias.template as<double>(), copy.residual = residual.template as<double>();
        copy.grad_y = grad_y.template as<double>(), copy.grad_x = grad_x.template as<double>();
        copy.grad_weight = grad_weight.template as<double>(),
        copy.grad_bias = grad_bias.template as<double>();
        return copy;
    }

    LinearShape shape;
    Strided<T> x, weight;
    Strided<Master> bias;
    Strided<T> residual, y, grad_y, grad_x;
    Strided<Master> grad_weight, grad_bias;
};

/// Which of the optional pointers are given.
struct Given {
    bool first = true, second = true;
};
constexpr Given all_given[] = {{true, true}, {true, false}, {false, true}, {false, false}};

template <class T>
class LinearCuda : public testing::CudaTest {
  protected:
    using Master = accum_t<T>;

    void forward(Data<T>& d, Given given, Variant variant) {
        const OnDevice<T> x(d.x), weight(d.weight), residual(d.residual), y(d.y);
        const OnDevice<Master> bias(d.bias);
        const LinearForward<T> args{.shape = d.shape,
                                    .x = x.data(),
                                    .x_stride = d.x.stride(),
                                    .weight = weight.data(),
                                    .bias = given.first ? bias.data() : nullptr,
                                    .residual = given.second ? residual.data() : nullptr,
                                    .residual_stride = d.residual.stride(),
                                    .y = y.data(),
                                    .y_stride = d.y.stride()};
        cuda::linear_forward(machine(), args, variant);
        d.y = y.back();
    }
    void backward_data(Data<T>& d, bool accumulate, Variant variant) {
        const OnDevice<T> grad_y(d.grad_y), weight(d.weight), grad_x(d.grad_x);
        const LinearBackwardData<T> args{.shape = d.shape,
                                         .grad_y = grad_y.data(),
                                         .grad_y_stride = d.grad_y.stride(),
                                         .weight = weight.data(),
                                         .grad_x = grad_x.data(),
                                         .grad_x_stride = d.grad_x.stride(),
                                         .accumulate = accumulate};
        cuda::linear_backward_data(machine(), args, variant);
        d.grad_x = grad_x.back();
    }
    void backward_weights(Data<T>& d, bool accumulate, Given given, Variant variant) {
        const OnDevice<T> x(d.x), grad_y(d.grad_y);
        const OnDevice<Master> grad_weight(d.grad_weight), grad_bias(d.grad_bias);
        const LinearBackwardWeights<T> args{.shape = d.shape,
                                            .x = x.data(),
                                            .x_stride = d.x.stride(),
                                            .grad_y = grad_y.data(),
                                            .grad_y_stride = d.grad_y.stride(),
                                            .grad_weight = given.first ? grad_weight.data() : nullptr,
                                            .grad_bias = given.second ? grad_bias.data() : nullptr,
                                            .accumulate_weight = accumulate,
                                            .accumulate_bias = accumulate};
        cuda::linear_backward_weights(machine(), args, variant);
        d.grad_weight = grad_weight.back();
        d.grad_bias = grad_bias.back();
    }

    /// The context of a machine that has all that the variants may use.
    Context machine() {
        Context result = context();
        if (!libraries_)
            libraries_ =
                std::make_unique<ito::cuda::LibraryHandles>(static_cast<cudaStream_t>(result.stream.handle));
        result.libraries = libraries_.get();
        result.plans = &plans_;
        return result;
    }

    static void oracle_forward(Data<double>& d, Given given) {
        ref::linear_forward(Context{},
                            LinearForward<double>{.shape = d.shape,
                                                  .x = d.x.data(),
                                                  .x_stride = d.x.stride(),
                                                  .weight = d.weight.data(),
                                                  .bias = given.first ? d.bias.data() : nullptr,
                                                  .residual = given.second ? d.residual.data() : nullptr,
                                                  .residual_stride = d.residual.stride(),
                                                  .y = d.y.data(),
                                                  .y_stride = d.y.stride()});
    }
    static void oracle_backward_data(Data<double>& d, bool accumulate) {
        ref::linear_backward_data(Context{}, LinearBackwardData<double>{.shape = d.shape,
                                                                        .grad_y = d.grad_y.data(),
                                                                        .grad_y_stride = d.grad_y.stride(),
                                                                        .weight = d.weight.data(),
                                                                        .grad_x = d.grad_x.data(),
                                                                        .grad_x_stride = d.grad_x.stride(),
                                                                        .accumulate = accumulate});
    }
    static void oracle_backward_weights(Data<double>& d, bool accumulate) {
        ref::linear_backward_weights(Context{},
                                     LinearBackwardWeights<double>{.shape = d.shape,
                                                                   .x = d.x.data(),
                                                                   .x_stride = d.x.stride(),
                                                                   .grad_y = d.grad_y.data(),
                                                                   .grad_y_stride = d.grad_y.stride(),
                                                                   .grad_weight = d.grad_weight.data(),
                                                                   .grad_bias = d.grad_bias.data(),
                                                                   .accumulate_weight = accumulate,
                                                                   .accumulate_bias = accumulate});
    }

    void for_each_version(const std::function<void(Variant)>& body) {
        for (const Variant variant : cuda::linear_variants) {
            if (variant == Variant::cublaslt_tf32 && !std::is_same_v<T, float>) continue;
            SCOPED_TRACE(name_of(variant));
            body(variant);
        }
    }
    /// float32 products of cublaslt_tf32 are held to a tolerance of their own.
    static double tolerance(Variant variant, double otherwise) {
        return variant == Variant::cublaslt_tf32 && std::is_same_v<T, float> ? 1e-3 : otherwise;
    }
    static std::string text(const Layer& layer) {
        return std::to_string(layer.shape.rows) + " rows, " + std::to_string(layer.shape.in_features) +
               " -> " + std::to_string(layer.shape.out_features) + ", gap " + std::to_string(layer.gap);
    }

    std::unique_ptr<ito::cuda::LibraryHandles> libraries_;
    PlanCache plans_;  // before the library ends
};

}  // namespace ito::kernels::linear_test
