#pragma once
// A linear layer with its gradients, on the host and on the device, for the tests of its CUDA kernels.

#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "core/cuda/vendor.h"
#include "kernels/linear/linear.h"
#include "kernels/runtime/plan_cache.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels::linear_test {

using testing::OnDevice;
using testing::Pitched;

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
    using Master = master_t<T>;

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
    Pitched<T> x, weight;
    Pitched<Master> bias;
    Pitched<T> residual, y, grad_y, grad_x;
    Pitched<Master> grad_weight, grad_bias;
};

/// Which of the optional pointers are given.
struct Given {
    bool first = true, second = true;
};
constexpr Given all_given[] = {{true, true}, {true, false}, {false, true}, {false, false}};

template <class T>
class LinearCuda : public testing::CudaTest {
  protected:
    using Master = master_t<T>;

    void forward(Data<T>& d, Given given, Version version) {
        const OnDevice<T> x(d.x), weight(d.weight), residual(d.residual), y(d.y);
        const OnDevice<Master> bias(d.bias);
        const LinearForward<T> args{.shape = d.shape,
                                    .x = x.data(),
                                    .x_pitch = d.x.pitch(),
                                    .weight = weight.data(),
                                    .bias = given.first ? bias.data() : nullptr,
                                    .residual = given.second ? residual.data() : nullptr,
                                    .residual_pitch = d.residual.pitch(),
                                    .y = y.data(),
                                    .y_pitch = d.y.pitch()};
        cuda::linear_forward(machine(), args, version);
        d.y = y.back();
    }
    void backward_data(Data<T>& d, bool accumulate, Version version) {
        const OnDevice<T> grad_y(d.grad_y), weight(d.weight), grad_x(d.grad_x);
        const LinearBackwardData<T> args{.shape = d.shape,
                                         .grad_y = grad_y.data(),
                                         .grad_y_pitch = d.grad_y.pitch(),
                                         .weight = weight.data(),
                                         .grad_x = grad_x.data(),
                                         .grad_x_pitch = d.grad_x.pitch(),
                                         .accumulate = accumulate};
        cuda::linear_backward_data(machine(), args, version);
        d.grad_x = grad_x.back();
    }
    void backward_weights(Data<T>& d, bool accumulate, Given given, Version version) {
        const OnDevice<T> x(d.x), grad_y(d.grad_y);
        const OnDevice<Master> grad_weight(d.grad_weight), grad_bias(d.grad_bias);
        const LinearBackwardWeights<T> args{.shape = d.shape,
                                            .x = x.data(),
                                            .x_pitch = d.x.pitch(),
                                            .grad_y = grad_y.data(),
                                            .grad_y_pitch = d.grad_y.pitch(),
                                            .grad_weight = given.first ? grad_weight.data() : nullptr,
                                            .grad_bias = given.second ? grad_bias.data() : nullptr,
                                            .accumulate_weight = accumulate,
                                            .accumulate_bias = accumulate};
        cuda::linear_backward_weights(machine(), args, version);
        d.grad_weight = grad_weight.back();
        d.grad_bias = grad_bias.back();
    }

    /// The context of a machine that has all that the versions may use.
    Context machine() {
        Context result = context();
        if (!libraries_)
            libraries_ =
                std::make_unique<ito::cuda::LibraryHandles>(static_cast<cudaStream_t>(result.stream.handle));
        result.vendor = libraries_.get();
        result.plans = &plans_;
        return result;
    }

    static void oracle_forward(Data<double>& d, Given given) {
        ref::linear_forward(Context{},
                            LinearForward<double>{.shape = d.shape,
                                                  .x = d.x.data(),
                                                  .x_pitch = d.x.pitch(),
                                                  .weight = d.weight.data(),
                                                  .bias = given.first ? d.bias.data() : nullptr,
                                                  .residual = given.second ? d.residual.data() : nullptr,
                                                  .residual_pitch = d.residual.pitch(),
                                                  .y = d.y.data(),
                                                  .y_pitch = d.y.pitch()});
    }
    static void oracle_backward_data(Data<double>& d, bool accumulate) {
        ref::linear_backward_data(Context{}, LinearBackwardData<double>{.shape = d.shape,
                                                                        .grad_y = d.grad_y.data(),
                                                                        .grad_y_pitch = d.grad_y.pitch(),
                                                                        .weight = d.weight.data(),
                                                                        .grad_x = d.grad_x.data(),
                                                                        .grad_x_pitch = d.grad_x.pitch(),
                                                                        .accumulate = accumulate});
    }
    static void oracle_backward_weights(Data<double>& d, bool accumulate) {
        ref::linear_backward_weights(Context{},
                                     LinearBackwardWeights<double>{.shape = d.shape,
                                                                   .x = d.x.data(),
                                                                   .x_pitch = d.x.pitch(),
                                                                   .grad_y = d.grad_y.data(),
                                                                   .grad_y_pitch = d.grad_y.pitch(),
                                                                   .grad_weight = d.grad_weight.data(),
                                                                   .grad_bias = d.grad_bias.data(),
                                                                   .accumulate_weight = accumulate,
                                                                   .accumulate_bias = accumulate});
    }

    void for_each_version(const std::function<void(Version)>& body) {
        for (const Version version : cuda::linear_versions) {
            if (version == Version::vendor_tf32 && !std::is_same_v<T, float>) continue;
            SCOPED_TRACE(name_of(version));
            body(version);
        }
    }
    /// float32 products of vendor_tf32 are held to a tolerance of their own.
    static double tolerance(Version version, double otherwise) {
        return version == Version::vendor_tf32 && std::is_same_v<T, float> ? 1e-3 : otherwise;
    }
    static std::string text(const Layer& layer) {
        return std::to_string(layer.shape.rows) + " rows, " + std::to_string(layer.shape.in_features) +
               " -> " + std::to_string(layer.shape.out_features) + ", gap " + std::to_string(layer.gap);
    }

    std::unique_ptr<ito::cuda::LibraryHandles> libraries_;
    PlanCache plans_;  // before the library ends
};

}  // namespace ito::kernels::linear_test
