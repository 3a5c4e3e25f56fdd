#pragma once
// Statistics of a model's weights, and what looks wrong about them.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nn/module.h"

namespace ito::apps {

/// Statistics of one tensor. Values that are not finite are counted and left out of the rest.
struct WeightStatistics {
    std::string name;
    Shape shape;
    double mean = 0, std = 0, min = 0, max = 0, norm = 0;
    double zeros = 0;  ///< share of the elements
    std::int64_t nan = 0, infinite = 0;
    /// Output channels (rows of a weight, elements of a norm's weight) that are all zero: they pass nothing on.
    std::int64_t dead_channels = 0;
};

WeightStatistics statistics_of(const nn::NamedTensor& tensor);

class WeightTable {
  public:
    explicit WeightTable(const std::vector<nn::NamedTensor>& tensors);

    const std::vector<WeightStatistics>& tensors() const { return tensors_; }
    /// One line for each tensor with dead channels or values that are not finite.
    std::vector<std::string> warnings() const;
    std::int64_t not_finite() const;
    /// The name of the first tensor with such a value; empty if there is none.
    std::string first_not_finite() const;

    /// For a terminal of 100 columns.
    std::string to_text() const;
    nlohmann::ordered_json to_json() const;

  private:
    std::vector<WeightStatistics> tensors_;
};

/// Throws Error if a weight is NaN or infinite: the images would have one colour and look like a result. `run` is what was asked
/// for, `options` those with which ito inspect shows the weights.
void require_finite(const std::vector<nn::NamedTensor>& weights, const std::string& run,
                    const std::string& options);
/// Those options.
std::string inspect_options(bool raw, const std::string& variant);

}  // namespace ito::apps
