#pragma once
// The recorded graph: one named Node per op, holding exactly what its backward needs.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "core/trace.h"

namespace ito::autograd {

/// The gradient of a node's output, handed to backward(). `owned`: nobody else sees this memory, so it may
/// be changed in place or handed on.
struct Gradient {
    Tensor value;
    bool owned = false;
};

/// Where the gradient of one input goes. Backward writes straight into it, so that a second consumer's
/// gradient (a skip connection) costs no extra pass.
class GradientSlot {
  public:
    enum class Mode {
        ignore,      ///< nobody wants this gradient: do not compute it
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

    /// The buffer to write or add to, as mode() said *before* this call; it counts as written from now on.
    Tensor buffer();
    /// The same, without gaps between rows: for kernels that take no row stride (gradients of weights).
    Tensor dense_buffer();

    /// Hands on a finished gradient: taken over without a copy if the target is empty (and, for later
    /// accumulation, in place if owned), else added.
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

/// One recorded op: its inputs' edges, and how their gradients follow from its output's.
class Node {
  public:
    /// Where the gradient of one input goes: to the node that made it, to a leaf, or nowhere.
    struct Edge {
        std::shared_ptr<Node> node;
        std::shared_ptr<Tensor::Impl> leaf;
    };

    Node() = default;
    virtual ~Node();
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    /// The op's name, as errors and the Graphviz dump show it.
    virtual const char* name() const = 0;
    /// Writes the gradient of input i into inputs[i], for every slot that wants it. Runs under no-grad.
    virtual void backward(Gradient gradient, std::span<GradientSlot> inputs) = 0;
    /// Lets go of everything saved. Called once backward has run.
    virtual void release() = 0;

    const std::vector<Edge>& edges() const { return edges_; }
    std::uint64_t sequence() const { return sequence_; }
    /// The part of the network that recorded this (see trace::Layer). Known in anomaly mode and where somebody listens to
    /// the trace, else empty.
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

/// Recording is on unless a NoGrad lives on this thread.
bool grad_enabled();

/// Switches recording off on this thread for as long as it lives.
class NoGrad {
  public:
    NoGrad();
    ~NoGrad();
    NoGrad(const NoGrad&) = delete;
    NoGrad& operator=(const NoGrad&) = delete;

  private:
    bool before_;
};

/// The opposite, for the recomputation inside a checkpoint's backward.
class EnableGrad {
  public:
    EnableGrad();
    ~EnableGrad();
    EnableGrad(const EnableGrad&) = delete;
    EnableGrad& operator=(const EnableGrad&) = delete;

  private:
    bool before_;
};

/// Anomaly mode: every op's result, and every gradient, is searched for NaN and infinity; the first op that
/// makes one is named in an Error, with the layer that it belongs to. Slow; for debugging.
void set_anomaly_mode(bool on);
bool anomaly_mode();
/// Throws if `tensor` has a NaN or an infinity.
void check_anomaly(const char* op, const std::string& what, const Tensor& tensor);

/// True if an op with these inputs is to be recorded.
bool recording(std::initializer_list<Tensor> inputs);
bool recording(std::span<const Tensor> inputs);

/// How many nodes this thread has recorded: the sequence() of the last one.
std::uint64_t nodes_recorded();

/// Makes `node` the maker of `output`, with an edge to each input.
void attach(const std::shared_ptr<Node>& node, Tensor& output, std::initializer_list<Tensor> inputs);
void attach(const std::shared_ptr<Node>& node, Tensor& output, std::span<const Tensor> inputs);

/// The end of every differentiable op: checks for anomalies and, where an input needs a gradient, records
/// the node that `make` returns. Tells the listener, if there is one (core/trace.h).
template <class Make>
Tensor record(const char* op, Tensor output, std::initializer_list<Tensor> inputs, Make&& make) {
    if (anomaly_mode()) check_anomaly(op, "result", output);
    if (recording(inputs)) attach(make(), output, inputs);
    if (trace::listener) trace::listener->made(op, output, {inputs.begin(), inputs.size()});
    return output;
}

}  // namespace ito::autograd
