#pragma once
// The recorded graph: one named Node per op, holding exactly what its backward needs.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/autograd/op_listener.h"
#include "core/grad_mode.h"
#include "core/tensor.h"

namespace ito::autograd {

/// The gradient of a node's output, an argument of backward(). `owned`: nobody else uses this memory, so it may be changed in
/// place or passed on.
struct Gradient {
    Tensor value;
    bool owned = false;
};

/// Where backward() writes the gradient of one input. Backward accumulates into the buffer itself, so that a second consumer's
/// gradient (a skip connection) costs no extra pass.
class GradientSlot {
  public:
    enum class Mode {
        ignore,      ///< this gradient is not needed: do not compute it
        overwrite,   ///< the buffer holds nothing yet
        accumulate,  ///< add to the buffer
    };

    /// State shared by all slots that lead to the same tensor.
    struct Target {
        Shape shape;
        DType dtype = DType::float32;
        Device device;
        Gradient gradient;
    };

    GradientSlot() = default;
    explicit GradientSlot(Target* target) : target_(target) {}
    explicit GradientSlot(const std::shared_ptr<Tensor::Impl>& leaf) : leaf_(leaf) {}

    Mode mode() const;
    bool wanted() const { return mode() != Mode::ignore; }
    bool accumulates() const { return mode() == Mode::accumulate; }

    /// The buffer to overwrite or add to, as mode() says *before* this call. From this call on mode() is accumulate.
    Tensor buffer();
    /// The same, without gaps between rows: for kernels that take no row stride (gradients of weights).
    Tensor dense_buffer();

    /// Passes on a finished gradient. It becomes the buffer, without a copy, if there is none yet; else it is added. Later
    /// gradients are added to it in place if it is owned, else to a copy.
    void give(Gradient gradient);

  private:
    Target* target_ = nullptr;
    std::shared_ptr<Tensor::Impl> leaf_;
};

/// An input saved for backward, with the version it had. Reading it after a change in place is an error.
class Saved {
  public:
    Saved() = default;
    explicit Saved(const Tensor& tensor);
    /// The tensor, outside of the graph; undefined if none was saved.
    const Tensor& get(const char* op) const;

  private:
    Tensor tensor_;
    std::uint64_t version_ = 0;
};

/// One recorded op: an edge for each input, and the computation of their gradients from the output's.
class Node : public GradFn {
  public:
    /// Where the gradient of one input goes: to the node that made it, to a leaf, or nowhere.
    struct Edge {
        std::shared_ptr<Node> node;
        std::shared_ptr<Tensor::Impl> leaf;
    };

    Node() = default;
    ~Node() override;
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    /// Writes the gradient of input i into inputs[i], for every slot that wants it. Runs under no-grad.
    virtual void backward(Gradient gradient, std::span<GradientSlot> inputs) = 0;
    /// Frees everything saved. Called after backward.
    virtual void release() = 0;

    const std::vector<Edge>& edges() const { return edges_; }
    std::uint64_t sequence() const { return sequence_; }
    /// The part of the network that recorded this (see trace::Layer). Empty unless anomaly mode or a trace is on.
    const std::string& layer() const { return layer_; }
    const Shape& shape() const { return shape_; }
    DType dtype() const { return dtype_; }
    Device device() const { return device_; }

  private:
    friend void attach(const std::shared_ptr<Node>&, Tensor&, std::initializer_list<Tensor>);
    friend void attach(const std::shared_ptr<Node>&, Tensor&, std::span<const Tensor>);
    friend class Engine;

    std::vector<Edge> edges_;     // one per input, in the order of backward's slots
    std::uint64_t sequence_ = 0;  // order of recording; backward runs in the opposite order
    Shape shape_;                 // of the output
    DType dtype_ = DType::float32;
    Device device_;
    bool released_ = false;
    std::string layer_;
};

/// The node that made a tensor; null for a leaf.
inline std::shared_ptr<Node> node_of(const Tensor& tensor) {
    return std::static_pointer_cast<Node>(tensor.impl().grad_fn);
}

/// Anomaly mode searches every op's result and every gradient for NaN and infinity, and throws an Error that names the first
/// op that makes one, and its layer. Slow; for debugging.
void set_anomaly_mode(bool on);
bool anomaly_mode();
/// Throws if `tensor` has a NaN or an infinity.
void check_anomaly(const char* op, const std::string& what, const Tensor& tensor);

/// True if an op with these inputs is to be recorded.
bool recording(std::initializer_list<Tensor> inputs);
bool recording(std::span<const Tensor> inputs);

/// How many nodes this thread has recorded: the sequence() of the last one.
std::uint64_t nodes_recorded();

/// Records that `node` made `output`, with an edge to each input.
void attach(const std::shared_ptr<Node>& node, Tensor& output, std::initializer_list<Tensor> inputs);
void attach(const std::shared_ptr<Node>& node, Tensor& output, std::span<const Tensor> inputs);

/// The last call of every differentiable op: checks for anomalies, records the node that `make` returns if an input needs a
/// gradient, and tells the OpListener if there is one.
template <class Make>
Tensor record(const char* op, Tensor output, std::initializer_list<Tensor> inputs, Make&& make) {
    if (anomaly_mode()) check_anomaly(op, "result", output);
    if (recording(inputs)) attach(make(), output, inputs);
    if (auto* const listener = trace::op_listener())
        listener->made(op, output, {inputs.begin(), inputs.size()});
    return output;
}

}  // namespace ito::autograd
