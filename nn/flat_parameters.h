#pragma once
// All parameters of a network in one buffer and all their gradients in another, so that one launch updates
// all and one call sums all.

#include "nn/module.h"

namespace ito::nn {

/// The parameters of a module, gathered; what optimizers work on.
class FlatParameters {
  public:
    /// Moves the parameters of `module` (values kept) into one buffer; each becomes a view of it, aligned to
    /// 64 bytes. The gaps hold zeros, and so do their gradients. The module's handles stay valid. Throws Error if
    /// parameters differ in dtype or device, or if one tensor is registered twice.
    explicit FlatParameters(Module& module);

    Tensor& values() { return values_; }
    const Tensor& values() const { return values_; }
    /// The flat gradient; zeros where backward() has not been since zero_grad().
    const Tensor& gradients();
    void zero_grad();

    const std::vector<Parameter>& parameters() const { return parameters_; }
    /// Views of another buffer of the same layout (Adam's moments, the EMA), named like the parameters.
    std::vector<NamedTensor> named_views(const Tensor& flat) const;
    /// Frees packed weights that sampling left behind.
    void release_derived();

    /// Exchanges the values with those of `other` (the EMA), element by element, and back at the end of the
    /// scope.
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
        Tensor scratch_;  ///< taken on the way there: the way back is in a destructor
    };

  private:
    std::vector<Parameter> parameters_;
    std::vector<std::int64_t> offsets_;
    Tensor values_, gradients_;
};

}  // namespace ito::nn
