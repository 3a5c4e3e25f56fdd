#pragma once
// All parameters of a network in one buffer and all their gradients in another, so that one launch updates all of them and
// one call reduces all gradients. For mixed precision a third buffer holds the values in bfloat16: the kernels of the forward
// and backward pass read that copy, gradients and updates stay in float32 (Micikevicius et al. 2018, "Mixed Precision
// Training", without its loss scaling: bfloat16 has the exponents of float32).

#include "nn/module.h"

namespace ito::nn {

/// The parameters of a module in one buffer, for the optimizer.
class FlatParameters {
  public:
    /// Moves the parameters of `module` (values kept) into one buffer; each becomes a view of it, aligned to
    /// 64 bytes. The gaps hold zeros, and so do their gradients. The module's handles stay valid. With `compute` bfloat16
    /// every parameter gets a copy of that type (see Tensor::as). Throws Error if parameters differ in dtype or device, or
    /// if one tensor is registered twice.
    explicit FlatParameters(Module& module, DType compute = DType::float32);

    Tensor& values() { return values_; }
    const Tensor& values() const { return values_; }
    /// The bfloat16 copy, which the optimizer writes together with the values; undefined without mixed precision.
    const Tensor& compute_values() const { return compute_values_; }
    /// Call it after changing the values but not the copy.
    void refresh_compute_values();
    /// Call it after a replayed graph has changed values and copy: no op bumped their versions.
    void bump_version();
    /// The flat gradient; zero for parameters that backward() has not reached since zero_grad().
    const Tensor& gradients();
    void zero_grad();

    const std::vector<Parameter>& parameters() const { return parameters_; }
    /// Views of another buffer of the same layout (Adam's moments, the EMA), named like the parameters.
    std::vector<NamedTensor> named_views(const Tensor& flat) const;
    /// Frees the packed weights that sampling made.
    void release_derived();

    /// Exchanges the values with those of `other` (the EMA), element by element, and back at the end of the scope.
    class Swap {
      public:
        Swap(FlatParameters& parameters, Tensor& other);
        ~Swap();
        Swap(const Swap&) = delete;
        Swap& operator=(const Swap&) = delete;

      private:
        void exchange();
        FlatParameters& parameters_;
        Tensor& other_;
        Tensor scratch_;  ///< allocated in the constructor, because the destructor must not throw
    };

  private:
    std::vector<Parameter> parameters_;
    std::vector<std::int64_t> offsets_;
    Tensor values_, gradients_, compute_values_;
};

}  // namespace ito::nn
