#include "core/autograd/node.h"

#include <cmath>
#include <deque>

namespace ito::autograd {
namespace {

thread_local std::uint64_t next_sequence = 0;
bool anomaly = false;

/// Nodes without an owner, destroyed one after another: a chain of ten thousand ops must not recurse ten thousand
/// destructors deep.
struct Graveyard {
    std::deque<std::shared_ptr<Node>> nodes;
};
thread_local Graveyard* graveyard = nullptr;

}  // namespace

Node::~Node() {
    Graveyard local;
    const bool outermost = graveyard == nullptr;
    if (outermost) graveyard = &local;
    for (auto& edge : edges_) {
        if (edge.node && edge.node.use_count() == 1) graveyard->nodes.push_back(std::move(edge.node));
    }
    if (!outermost) return;
    while (!local.nodes.empty()) {
        const auto node = std::move(local.nodes.front());
        local.nodes.pop_front();
    }
    graveyard = nullptr;
}

GradientSlot::Mode GradientSlot::mode() const {
    if (target_) return target_->gradient.value ? Mode::accumulate : Mode::overwrite;
    if (leaf_) return leaf_->grad && !leaf_->grad_stale ? Mode::accumulate : Mode::overwrite;
    return Mode::ignore;
}

Tensor GradientSlot::buffer() {
    if (target_) {
        auto& gradient = target_->gradient;
        if (!gradient.value) {
            gradient = {Tensor::empty(target_->shape, target_->dtype, target_->device), true};
        } else if (!gradient.owned) {
            gradient = {gradient.value.clone(), true};
        }
        return gradient.value;
    }
    require(leaf_ != nullptr, "gradient slot: buffer() of a gradient that is not needed");
    if (!leaf_->grad) leaf_->grad = Tensor::empty(leaf_->shape, leaf_->dtype, leaf_->storage->device());
    leaf_->grad_stale = false;
    return leaf_->grad;
}

Tensor GradientSlot::dense_buffer() {
    if (target_ && target_->gradient.value && !target_->gradient.value.is_contiguous())
        target_->gradient = {target_->gradient.value.clone(), true};
    return buffer();
}

void GradientSlot::give(Gradient gradient) {
    if (wanted()) {
        const Shape& expected = target_ ? target_->shape : leaf_->shape;
        require(gradient.value.shape() == expected,
                "gradient slot: a gradient of shape {} for an input of shape {}", gradient.value.shape(),
                expected);
    }
    switch (mode()) {
        case Mode::ignore:
            return;
        case Mode::accumulate:
            buffer().add_(gradient.value);
            return;
        case Mode::overwrite:
            if (target_)
                target_->gradient = std::move(gradient);
            else
                buffer().copy_(gradient.value);  // a leaf's gradient stays where it is: in the flat buffer
    }
}

Saved::Saved(const Tensor& tensor) {
    if (!tensor) return;
    tensor_ = tensor.detach();
    version_ = tensor.version();
    if (auto* const listener = trace::op_listener()) listener->saved(tensor_);
}

const Tensor& Saved::get(const char* op) const {
    if (tensor_) {
        require(tensor_.version() == version_,
                "{}: a tensor of shape {} that backward needs was changed in place: it was saved at version "
                "{} and is "
                "at version {} now; clone it before changing it",
                op, tensor_.shape(), version_, tensor_.version());
    }
    return tensor_;
}

void set_anomaly_mode(bool on) {
    anomaly = on;
}
bool anomaly_mode() {
    return anomaly;
}

void check_anomaly(const char* op, const std::string& what, const Tensor& tensor) {
    if (!tensor || tensor.dtype() == DType::uint8 || tensor.dtype() == DType::int64) return;
    const auto values = tensor.to(DType::float64).to_vector<double>();
    const std::string where = trace::layer && !trace::layer->empty() ? *trace::layer + ": " : "";
    for (std::size_t i = 0; i < values.size(); ++i) {
        require(std::isfinite(values[i]), "anomaly: {}{} made {} at element {} of its {} (shape {})", where,
                op, std::isnan(values[i]) ? std::abs(values[i]) : values[i], i, what, tensor.shape());
    }
}

std::uint64_t nodes_recorded() {
    return next_sequence;
}

bool recording(std::span<const Tensor> inputs) {
    if (!grad_enabled()) return false;
    for (const auto& input : inputs)
        if (input.requires_grad()) return true;
    return false;
}

bool recording(std::initializer_list<Tensor> inputs) {
    return recording(std::span(inputs.begin(), inputs.size()));
}

void attach(const std::shared_ptr<Node>& node, Tensor& output, std::span<const Tensor> inputs) {
    node->edges_.reserve(inputs.size());
    for (const auto& input : inputs) {
        Node::Edge edge;
        if (input && input.impl().grad_fn)
            edge.node = node_of(input);
        else if (input && input.impl().requires_grad)
            edge.leaf = input.handle();
        node->edges_.push_back(std::move(edge));
    }
    node->sequence_ = ++next_sequence;
    node->shape_ = output.shape();
    node->dtype_ = output.dtype();
    node->device_ = output.device();
    if (trace::layer && (anomaly || trace::listener)) node->layer_ = *trace::layer;
    output.impl().grad_fn = node;
}

void attach(const std::shared_ptr<Node>& node, Tensor& output, std::initializer_list<Tensor> inputs) {
    attach(node, output, std::span(inputs.begin(), inputs.size()));
}

}  // namespace ito::autograd
