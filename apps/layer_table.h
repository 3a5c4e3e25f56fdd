#pragma once
// The layers of a network as they ran: the output, cost and saved memory of each.

#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "apps/backward_memory.h"
#include "core/autograd/op_listener.h"
#include "core/ops/flops.h"
#include "nn/module.h"

namespace ito::apps {

/// One op of the forward pass; the numbers are those of the whole batch.
struct Layer {
    std::string block;  ///< the module that the layer is part of, "" for the network itself
    std::string name;   ///< in the block; the op's name if it has no parameters
    std::string op;
    Shape shape;  ///< of one image's output
    std::int64_t parameters = 0;
    ops::Flops flops;
    /// Saved for backward by this layer and by none before it.
    std::size_t saved_bytes = 0;
};

/// Collects the layers of one forward pass of a network in order of execution.
class LayerTable : public trace::OpListener {
  public:
    LayerTable(const nn::Module& model, std::int64_t batch);

    void made(const char* op, const Tensor& output, std::span<const Tensor> inputs) override;
    void saved(const Tensor& tensor) override;
    void begin(trace::Kind kind, const char* name, const Shape* shape) override;
    void end() override;

    const std::vector<Layer>& layers() const { return layers_; }
    std::int64_t parameters() const { return parameters_; }
    ops::Flops flops() const;
    std::size_t saved_bytes() const;
    /// The most that saved tensors, gradients and kernels' scratch memory take together.
    std::size_t backward_bytes() const { return memory_.peak(); }
    /// The result of the last op: the loss. Its graph stays after backward.
    const Tensor& root() const { return root_; }

    /// For a terminal of 80 columns. All numbers are per image.
    std::string to_text() const;
    /// Each op's share of all of it, the most work first.
    std::string shares_text() const;
    nlohmann::ordered_json to_json() const;

  private:
    void place(Layer& layer, const std::string& parameter);

    std::int64_t batch_, parameters_;
    std::unordered_map<const Tensor::Impl*, std::string> names_;  // of the parameters
    std::unordered_set<const Tensor::Impl*> counted_;
    std::unordered_set<const Storage*> kept_, weights_;
    std::vector<std::string> modules_;
    std::vector<Layer> layers_;
    std::size_t pending_bytes_ = 0;  // saved by the op that is running
    std::size_t first_unplaced_ = 0;
    BackwardMemory memory_;
    Device device_;
    std::vector<trace::Kind> spans_;  // that are open
    Tensor root_;
};

}  // namespace ito::apps
