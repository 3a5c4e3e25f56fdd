#pragma once
// A linear layer with its gradients on the device, for the tests of its CUDA kernels.

#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "core/cuda/library_handles.h"
#include "kernels/common/plan_cache.h"
#include "tests/kernels/linear_data.h"

namespace ito::kernels::linear_test {

using testing::DeviceArguments;
using testing::Strided;

/// Relative L2 of a result that is rounded to T after float32 sums.
template <class T>
constexpr double l2_tolerance = std::is_same_v<T, float> ? 2e-6 : 4e-3;
template <class T>
constexpr double worst_tolerance = 10 * l2_tolerance<T>;

struct Layer {
    LinearShape shape;
    std::int64_t gap = 0;  ///< between rows of x, y and their gradients
};

template <class T>
Case<T> filled(const Layer& layer) {
    return Case<T>(layer.shape, layer.gap).fill();
}

/// Which of the optional pointers are given.
struct Given {
    bool first = true, second = true;
};
constexpr Given all_given[] = {{true, true}, {true, false}, {false, true}, {false, false}};

template <class T>
class LinearCuda : public testing::CudaTest {
  protected:
    void forward(Case<T>& c, Given given, Variant variant) {
        layer_test::forward_on_cuda(machine(), c, variant, given.first, given.second);
    }
    void backward_data(Case<T>& c, bool accumulate, Variant variant) {
        layer_test::backward_data_on_cuda(machine(), c, accumulate, variant);
    }
    void backward_weights(Case<T>& c, bool accumulate, Given given, Variant variant) {
        layer_test::backward_weights_on_cuda(machine(), c, accumulate, variant, given.first, given.second);
    }

    /// The context of a machine that has all that the variants may use.
    Context machine() {
        Context result = context();
        if (!libraries_)
            libraries_ =
                std::make_unique<ito::cuda::LibraryHandles>(static_cast<cudaStream_t>(result.stream.handle));
        result.libraries = libraries_.get();
        result.plans = &plans_;
        result.math = math_;
        return result;
    }

    /// cublaslt also with factors rounded to TF32.
    void for_each_variant(const std::function<void(Variant)>& body) {
        for (const Variant variant : cuda::linear_variants) {
            SCOPED_TRACE(name_of(variant));
            body(variant);
        }
        if (!std::is_same_v<T, float>) return;
        SCOPED_TRACE("tf32");
        math_ = MathMode::tf32;
        body(Variant::cublaslt);
        math_ = MathMode::float32;
    }
    /// Products of rounded factors are held to a tolerance of their own.
    double tolerance(double otherwise) const { return math_ == MathMode::tf32 ? 1e-3 : otherwise; }
    static std::string text(const Layer& layer) {
        return ::testing::PrintToString(layer.shape) + ", gap " + std::to_string(layer.gap);
    }

    MathMode math_ = MathMode::float32;
    std::unique_ptr<ito::cuda::LibraryHandles> libraries_;
    PlanCache plans_;  // before the library ends
};

}  // namespace ito::kernels::linear_test
