#include "apps/layer_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace ito::apps {
namespace {

std::size_t bytes_of(const Tensor& tensor) {
    return static_cast<std::size_t>(tensor.numel()) * size_of(tensor.dtype());
}

/// Ops that only look at their input differently.
bool is_view(std::string_view op) {
    return op == "reshape" || op == "slice";
}

}  // namespace

LayerTable::LayerTable(const nn::Module& model, std::int64_t batch)
    : batch_(batch), parameters_(model.parameter_count()) {
    for (const auto& parameter : model.parameters()) {
        names_[parameter.tensor.handle().get()] = parameter.name;
        weights_.insert(parameter.tensor.storage().get());
    }
    model.visit([&](const std::string& name, const nn::Module&) { modules_.push_back(name); });
}

void LayerTable::saved(const Tensor& tensor) {
    const Storage* storage = tensor.storage().get();
    if (!weights_.contains(storage) && kept_.insert(storage).second) pending_bytes_ += storage->bytes();
}

void LayerTable::place(Layer& layer, const std::string& parameter) {
    const std::string full = parameter.substr(0, parameter.rfind('.'));
    for (const std::string& module : modules_)
        if (module.size() > layer.block.size() && full.starts_with(module + ".")) layer.block = module;
    layer.name = layer.block.empty() ? full : full.substr(layer.block.size() + 1);
    // Ops without parameters belong to the block whose layer comes next (a concatenation, an enlargement), or that they
    // are in the middle of.
    for (; first_unplaced_ < layers_.size(); ++first_unplaced_) layers_[first_unplaced_].block = layer.block;
    first_unplaced_ = layers_.size() + 1;
}

void LayerTable::made(const char* op, const Tensor& output, std::span<const Tensor> inputs) {
    std::size_t in_flight = bytes_of(output);
    for (const Tensor& input : inputs)
        if (input.requires_grad() && !input.is_leaf()) in_flight += bytes_of(input);
    gradient_bytes_ = std::max(gradient_bytes_, in_flight);
    root_ = output;

    Layer layer{.block = {},
                .name = op,
                .op = op,
                .shape = output.shape(),
                .flops = ops::flops_of(op, output, inputs)};
    layer.saved_bytes = std::exchange(pending_bytes_, 0);
    if (!layer.shape.empty() && layer.shape.front() == batch_) layer.shape.erase(layer.shape.begin());
    bool placed = false;
    for (const Tensor& input : inputs) {
        const auto name = input ? names_.find(input.handle().get()) : names_.end();
        if (name == names_.end()) continue;
        if (!std::exchange(placed, true)) place(layer, name->second);
        if (counted_.insert(name->first).second) layer.parameters += input.numel();
    }
    if (!is_view(op)) layers_.push_back(std::move(layer));
}

ops::Flops LayerTable::flops() const {
    ops::Flops total;
    for (const Layer& layer : layers_) {
        total.forward += layer.flops.forward;
        total.backward += layer.flops.backward;
    }
    return total;
}

std::size_t LayerTable::saved_bytes() const {
    std::size_t total = 0;
    for (const Layer& layer : layers_) total += layer.saved_bytes;
    return total;
}

std::string LayerTable::to_text() const {
    std::size_t width = 20;
    for (const Layer& layer : layers_) width = std::max(width, layer.name.size() + 2);
    const auto row = [&](const std::string& name, const std::string& op, const std::string& shape,
                         const std::string& parameters, double flops, double bytes) {
        const double images = static_cast<double>(batch_);
        return fmt::format("{:<{}}  {:<10}  {:<14}  {:>10}  {:>10}  {:>10}\n", name, width, op, shape,
                           parameters, flops > 0 ? fmt::format("{:.2f}", flops / images / 1e6) : "",
                           bytes > 0 ? fmt::format("{:.1f}", bytes / images / 1024) : "");
    };
    std::string text = fmt::format("{:<{}}  {:<10}  {:<14}  {:>10}  {:>10}  {:>10}\n", "layer", width, "op",
                                   "output", "parameters", "MFLOP", "saved KiB"),
                block;
    for (const Layer& layer : layers_) {
        if (layer.block != block && !layer.block.empty()) text += layer.block + "\n";
        block = layer.block;
        text += row((block.empty() ? "" : "  ") + layer.name, layer.op,
                    fmt::format("{}", fmt::join(layer.shape, "x")),
                    layer.parameters > 0 ? std::to_string(layer.parameters) : "", layer.flops.forward,
                    static_cast<double>(layer.saved_bytes));
    }
    return text + row("in all, of one image", "", "", std::to_string(parameters_), flops().forward,
                      static_cast<double>(saved_bytes()));
}

nlohmann::ordered_json LayerTable::to_json() const {
    auto json = nlohmann::ordered_json::array();
    for (const Layer& layer : layers_) {
        json.push_back({{"layer", layer.block.empty() ? layer.name : layer.block + "." + layer.name},
                        {"op", layer.op},
                        {"shape", layer.shape},
                        {"parameters", layer.parameters},
                        {"forward_flops", layer.flops.forward},
                        {"backward_flops", layer.flops.backward},
                        {"saved_bytes", layer.saved_bytes}});
    }
    return json;
}

}  // namespace ito::apps
