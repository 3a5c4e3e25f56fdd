#include "nn/module.h"

namespace ito::nn {
namespace {

std::string join(const std::string& prefix, const std::string& name) {
    return prefix.empty() ? name : prefix + "." + name;
}

}  // namespace

void Module::visit(const std::string& prefix,
                   const std::function<void(const std::string&, const Module&)>& visitor) const {
    visitor(prefix, *this);
    for (const auto& [name, child] : children_) child->visit(join(prefix, name), visitor);
}

void Module::visit(const std::function<void(const std::string&, const Module&)>& visitor) const {
    visit("", visitor);
}

std::vector<Parameter> Module::parameters() const {
    std::vector<Parameter> all;
    visit([&](const std::string& prefix, const Module& module) {
        for (const auto& own : module.parameters_) {
            Parameter parameter = own;
            parameter.name = join(prefix, own.name);
            for (auto& part : parameter.parts) part = join(prefix, part);
            all.push_back(std::move(parameter));
        }
    });
    return all;
}

std::vector<NamedTensor> Module::named_parameters() const {
    std::vector<NamedTensor> all;
    for (const auto& parameter : parameters()) {
        if (parameter.parts.empty()) {
            all.push_back({parameter.name, parameter.tensor});
            continue;
        }
        const auto count = static_cast<std::int64_t>(parameter.parts.size());
        const std::int64_t length = parameter.tensor.dim(0) / count;
        for (std::int64_t i = 0; i < count; ++i) {
            all.push_back({parameter.parts[static_cast<std::size_t>(i)],
                           parameter.tensor.slice(0, i * length, length)});
        }
    }
    return all;
}

std::vector<NamedTensor> Module::named_buffers() const {
    std::vector<NamedTensor> all;
    visit([&](const std::string& prefix, const Module& module) {
        for (const auto& own : module.buffers_) all.push_back({join(prefix, own.name), own.tensor});
    });
    return all;
}

std::int64_t Module::parameter_count() const {
    std::int64_t count = 0;
    for (const auto& parameter : parameters()) count += parameter.tensor.numel();
    return count;
}

namespace {

/// Gives the converted elements to the Impl, which all handles of the tensor share.
void take_over(const Tensor& tensor, const Tensor& converted) {
    auto& impl = tensor.impl();
    impl.storage = converted.impl().storage;
    impl.offset = converted.impl().offset;
    impl.strides = converted.strides();
    impl.dtype = converted.dtype();
    impl.grad = {};
    impl.derived.clear();
    impl.compute_copy = {};
}

}  // namespace

void Module::to(DType type) {
    require(type == DType::float32 || type == DType::float64,
            "Module: parameters are float32 or float64, not {}", name_of(type));
    for (auto& parameter : parameters_) take_over(parameter.tensor, parameter.tensor.to(type).contiguous());
    for (const auto& [name, child] : children_) child->to(type);
}

void Module::to(Device device) {
    for (auto& parameter : parameters_) take_over(parameter.tensor, parameter.tensor.to(device).contiguous());
    for (auto& buffer : buffers_) take_over(buffer.tensor, buffer.tensor.to(device).contiguous());
    for (const auto& [name, child] : children_) child->to(device);
}

void Module::train(bool on) {
    training_ = on;
    for (const auto& [name, child] : children_) child->train(on);
}

void Module::move_below(const std::string& above, const std::string& own) {
    name_ = join(above, own);
    for (const auto& [name, child] : children_) child->move_below(name_, name);
}

Tensor Module::add_parameter(std::string name, const Shape& shape, Init init,
                             std::vector<std::string> parts) {
    require(parts.empty() || (!shape.empty() && shape[0] % static_cast<std::int64_t>(parts.size()) == 0),
            "parameter {}: shape {} cannot be cut into {} parts", name, shape, parts.size());
    Tensor tensor = Tensor::empty(shape);
    tensor.requires_grad_();
    parameters_.push_back({std::move(name), tensor, init, std::move(parts)});
    return tensor;
}

Tensor Module::add_buffer(std::string name, Tensor buffer) {
    buffers_.push_back({std::move(name), buffer});
    return buffer;
}

}  // namespace ito::nn
