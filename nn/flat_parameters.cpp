#include "nn/flat_parameters.h"

#include <map>
#include <utility>

namespace ito::nn {
namespace {

constexpr std::int64_t alignment = 16;  // elements: 64 bytes of float32
constexpr std::int64_t exchanged_at_once = std::int64_t{1}
                                           << 20;  // elements: an exchange needs little memory

}  // namespace

FlatParameters::FlatParameters(Module& module, DType compute) : parameters_(module.parameters()) {
    require(!parameters_.empty(), "FlatParameters: the module has no parameters");
    const DType type = parameters_.front().tensor.dtype();
    const Device device = parameters_.front().tensor.device();
    std::int64_t total = 0;
    std::map<const Tensor::Impl*, std::string> names;
    for (const auto& parameter : parameters_) {
        const auto [known, added] = names.try_emplace(parameter.tensor.handle().get(), parameter.name);
        require(added, "FlatParameters: {} and {} are one tensor, which can have one place only",
                known->second, parameter.name);
        require(parameter.tensor.dtype() == type && parameter.tensor.device() == device,
                "FlatParameters: {} is {} on {}, the others are {} on {}", parameter.name,
                name_of(parameter.tensor.dtype()), to_string(parameter.tensor.device()), name_of(type),
                to_string(device));
        offsets_.push_back(total);
        total += (parameter.tensor.numel() + alignment - 1) / alignment * alignment;
    }
    values_ = Tensor::zeros({total}, type, device);
    gradients_ = Tensor::zeros({total}, type, device);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        Tensor& tensor = parameters_[i].tensor;
        Tensor view = values_.slice(0, offsets_[i], tensor.numel()).view(tensor.shape());
        view.copy_(tensor);
        tensor.release_derived();  // their versions belong to the old storage
        auto& impl = tensor.impl();
        impl.compute_copy = {};
        impl.storage = view.impl().storage;
        impl.offset = view.impl().offset;
        impl.strides = view.impl().strides;
        tensor.set_grad(gradients_.slice(0, offsets_[i], tensor.numel()).view(tensor.shape()));
    }
    if (compute == type || type == DType::float64) return;
    compute_values_ = values_.to(compute);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        Tensor& tensor = parameters_[i].tensor;
        tensor.set_compute_copy(compute_values_.slice(0, offsets_[i], tensor.numel()).view(tensor.shape()));
    }
}

void FlatParameters::refresh_compute_values() {
    if (compute_values_) compute_values_.copy_(values_);
}

void FlatParameters::bump_version() {
    values_.bump_version();
    if (compute_values_) compute_values_.bump_version();
}

const Tensor& FlatParameters::gradients() {
    for (auto& parameter : parameters_) parameter.tensor.grad();  // fills stale ones with zeros
    return gradients_;
}

void FlatParameters::zero_grad() {
    for (auto& parameter : parameters_) parameter.tensor.zero_grad();
}

std::vector<NamedTensor> FlatParameters::named_views(const Tensor& flat) const {
    require(flat.shape() == values_.shape(),
            "FlatParameters: a buffer of shape {} does not have the layout of {}", flat.shape(),
            values_.shape());
    std::vector<NamedTensor> views;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        const auto& parameter = parameters_[i];
        const Tensor whole =
            flat.slice(0, offsets_[i], parameter.tensor.numel()).view(parameter.tensor.shape());
        if (parameter.parts.empty()) {
            views.push_back({parameter.name, whole});
            continue;
        }
        const auto length = whole.dim(0) / static_cast<std::int64_t>(parameter.parts.size());
        for (std::size_t k = 0; k < parameter.parts.size(); ++k) {
            views.push_back(
                {parameter.parts[k], whole.slice(0, static_cast<std::int64_t>(k) * length, length)});
        }
    }
    return views;
}

void FlatParameters::release_derived() {
    for (auto& parameter : parameters_) parameter.tensor.release_derived();
}

FlatParameters::Swap::Swap(FlatParameters& parameters, Tensor& other)
    : parameters_(parameters),
      other_(other),
      scratch_(Tensor::empty({std::min(exchanged_at_once, other.numel())}, other.dtype(), other.device())) {
    require(other.shape() == parameters.values_.shape(), "FlatParameters: cannot swap with shape {}",
            other.shape());
    exchange();
}

FlatParameters::Swap::~Swap() {
    exchange();
}

void FlatParameters::Swap::exchange() {
    Tensor& values = parameters_.values_;
    const std::int64_t total = values.numel();
    for (std::int64_t begin = 0; begin < total; begin += exchanged_at_once) {
        const std::int64_t length = std::min(exchanged_at_once, total - begin);
        Tensor a = values.slice(0, begin, length), b = other_.slice(0, begin, length),
               s = scratch_.slice(0, 0, length);
        s.copy_(a);
        a.copy_(b);
        b.copy_(s);
    }
    parameters_.refresh_compute_values();
}

}  // namespace ito::nn
