#pragma once
// Module: a part of a network with named parameters and sub-modules.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "core/trace.h"

namespace ito::nn {

/// How a parameter is filled before training; see initialize() in nn/init.h.
struct Init {
    enum class Kind {
        zeros,
        ones,
        glorot_uniform,  ///< uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)
        he_normal,       ///< normal with variance 2 / fan_in (He et al. 2015)
        normal,          ///< normal with standard deviation `stddev`
    };
    Kind kind = Kind::zeros;
    double stddev = 1;

    static Init zeros() { return {}; }
    static Init ones() { return {Kind::ones}; }
    static Init glorot_uniform() { return {Kind::glorot_uniform}; }
    static Init he_normal() { return {Kind::he_normal}; }
    static Init normal(double stddev) { return {Kind::normal, stddev}; }
};

/// A tensor to be trained.
struct Parameter {
    std::string name;  ///< full, e.g. "down_blocks.0.resnets.1.conv1.weight"
    Tensor tensor;
    Init init;
    /// Names of its equal parts along the first dimension, if files store several tensors (query, key and value) where this
    /// one is fused; else empty.
    std::vector<std::string> parts;
};

/// A tensor and its name in files.
struct NamedTensor {
    std::string name;
    Tensor tensor;
};

/// Base of every layer, block and network: derive from it, and add parameters and sub-modules in the constructor.
class Module {
  public:
    Module() = default;
    virtual ~Module() = default;
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    /// All parameters of this module and those below, in order of registration.
    std::vector<Parameter> parameters() const;
    /// The same under their names in files: parts of a fused parameter are views.
    std::vector<NamedTensor> named_parameters() const;
    /// Tensors that move with the module and may be saved with its parameters, but are not trained.
    std::vector<NamedTensor> named_buffers() const;
    std::int64_t parameter_count() const;

    /// Converts all parameters; gradients and derived data are dropped. float64 is for gradient checks and oracles. Call it
    /// before making FlatParameters.
    void to(DType type);
    /// Moves all parameters and buffers; gradients and derived data are dropped. Call it before making FlatParameters.
    void to(Device device);

    /// Dropout draws masks while training, which is the default, and does nothing while evaluating.
    void train(bool on = true);
    void eval() { train(false); }
    bool training() const { return training_; }

    /// The full name, e.g. "down_blocks.0.resnets.1.conv1"; the outermost module's is "".
    const std::string& name() const { return name_; }
    /// Names this module in traces, the recorded graph and anomaly mode until the end of the scope: the first line of forward.
    trace::Layer enter() const { return trace::Layer(name_); }

    /// Calls visit(full name, module) for this module (name "") and all below.
    void visit(const std::function<void(const std::string&, const Module&)>& visit) const;

  protected:
    /// A new leaf that requires a gradient. Its elements are undefined until initialize() or a file fills them.
    Tensor add_parameter(std::string name, const Shape& shape, Init init,
                         std::vector<std::string> parts = {});
    /// A tensor that belongs to the module and is not trained; see named_buffers(). to(DType) does not convert it.
    Tensor add_buffer(std::string name, Tensor buffer);
    template <class M>
    std::shared_ptr<M> add_module(std::string name, std::shared_ptr<M> module) {
        module->move_below(name_, name);
        children_.emplace_back(std::move(name), module);
        return module;
    }

  private:
    void visit(const std::string& prefix,
               const std::function<void(const std::string&, const Module&)>& visit) const;

    /// Puts the name of the parent module before those of this module and all below.
    void move_below(const std::string& above, const std::string& own);

    std::string name_;
    std::vector<Parameter> parameters_;
    std::vector<NamedTensor> buffers_;
    std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
    bool training_ = true;
};

}  // namespace ito::nn
