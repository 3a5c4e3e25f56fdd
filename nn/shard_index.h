#pragma once
// The index of weights in several files, as diffusers and transformers write it beside them:
//
//   diffusion_pytorch_model.safetensors.index.json
//   {"metadata": {"total_size": 143000000}, "weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}}

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace ito::nn {

struct ShardIndex {
    std::map<std::string, std::string> files;  ///< file name by tensor name, not empty
    std::optional<std::uint64_t> total_size;   ///< bytes of all tensors

    /// Every file once, in order.
    std::vector<std::string> shards() const;
};

/// `source` names the file in errors. A shard's name that is not that of a file in the index's own folder is refused.
ShardIndex parse_shard_index(const std::string& text, const std::string& source);

}  // namespace ito::nn
