#include "apps/layer_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/context.h"

namespace ito::apps {
namespace {

/// Ops that return a view of their input.
bool is_view(std::string_view op) {
    return op == "reshape" || op == "slice";
}

std::string shape_text(const Layer& layer) {
    return fmt::format("{}", fmt::join(layer.shape, "x"));
}

}  // namespace

LayerTable::LayerTable(const nn::Module& model, std::int64_t batch)
    : batch_(batch), parameters_(model.parameter_count()) {
    for (const auto& parameter : model.parameters()) {
        names_[parameter.tensor.handle().get()] = parameter.name;
        weights_.insert(parameter.tensor.storage().get());
        device_ = parameter.tensor.device();
    }
    model.visit([&](const std::string& name, const nn::Module&) { modules_.push_back(name); });
}

void LayerTable::saved(const Tensor& tensor) {
    const Storage* storage = tensor.storage().get();
    if (!weights_.contains(storage) && kept_.insert(storage).second) pending_bytes_ += storage->bytes();
}

void LayerTable::begin(trace::Kind kind, const char*, const Shape*) {
    spans_.push_back(kind);
    if (kind == trace::Kind::backward) take_scratch_peak(device_);
}

void LayerTable::end() {
    if (spans_.back() == trace::Kind::backward) memory_.ran(take_scratch_peak(device_));
    spans_.pop_back();
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
    const std::size_t saved = std::exchange(pending_bytes_, 0);
    memory_.add(op, output, inputs, saved);
    root_ = output;

    Layer layer{.block = {},
                .name = op,
                .op = op,
                .shape = output.shape(),
                .flops = ops::flops_of(op, output, inputs)};
    layer.saved_bytes = saved;
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
    std::size_t width = std::string_view("all, of one image").size(),
                shapes = std::string_view("output").size();
    for (const Layer& layer : layers_) {
        width = std::max(width, layer.name.size() + 2);
        shapes = std::max(shapes, shape_text(layer).size());
    }
    const auto line = [&](const std::string& name, std::string_view op, const std::string& shape,
                          const std::string& parameters, const std::string& mflop, const std::string& kib) {
        std::string text = fmt::format("{:<{}}  {:<10}  {:<{}}  {:>10}  {:>8}  {:>9}", name, width, op, shape,
                                       shapes, parameters, mflop, kib);
        return text.erase(text.find_last_not_of(' ') + 1) + "\n";
    };
    const auto row = [&](const std::string& name, std::string_view op, const std::string& shape,
                         std::int64_t parameters, double flops, std::size_t bytes) {
        const auto images = static_cast<double>(batch_);
        const auto unless_zero = [](const char* form, double value) {
            return value > 0 ? fmt::format(fmt::runtime(form), value) : std::string();
        };
        return line(name, op, shape, unless_zero("{:.0f}", static_cast<double>(parameters)),
                    unless_zero("{:.2f}", flops / images / 1e6),
                    unless_zero("{:.1f}", static_cast<double>(bytes) / images / 1024));
    };
    std::string text = line("layer", "op", "output", "parameters", "MFLOP", "saved KiB"), block;
    for (const Layer& layer : layers_) {
        if (layer.block != block && !layer.block.empty()) text += layer.block + "\n";
        block = layer.block;
        text += row((block.empty() ? "" : "  ") + layer.name, layer.op, shape_text(layer), layer.parameters,
                    layer.flops.forward, layer.saved_bytes);
    }
    return text + row("all, of one image", "", "", parameters_, flops().forward, saved_bytes());
}

std::string LayerTable::shares_text() const {
    struct Share {
        std::string op;
        double layers = 0, parameters = 0, flops = 0, bytes = 0;
    };
    std::vector<Share> shares;
    Share all;
    for (const Layer& layer : layers_) {
        auto share =
            std::find_if(shares.begin(), shares.end(), [&](const Share& s) { return s.op == layer.op; });
        if (share == shares.end()) share = shares.insert(shares.end(), {.op = layer.op});
        for (Share* sum : {&*share, &all}) {
            sum->layers += 1;
            sum->parameters += static_cast<double>(layer.parameters);
            sum->flops += layer.flops.forward;
            sum->bytes += static_cast<double>(layer.saved_bytes);
        }
    }
    std::stable_sort(shares.begin(), shares.end(), [](const Share& a, const Share& b) {
        return std::pair(a.flops, a.bytes) > std::pair(b.flops, b.bytes);
    });
    const auto percent = [](double part, double whole) {
        return part > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : std::string();
    };
    std::string text = "shares of    layers  parameters    FLOP   saved\n";
    for (const Share& s : shares) {
        text += fmt::format("  {:<10} {:>6}  {:>10}  {:>6}  {:>6}", s.op, s.layers,
                            percent(s.parameters, all.parameters), percent(s.flops, all.flops),
                            percent(s.bytes, all.bytes));
        text.erase(text.find_last_not_of(' ') + 1);
        text += '\n';
    }
    return text;
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
