#pragma once
// The index of weights in several files (shards), which diffusers and transformers write beside them:
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
    std::map<std::string, std::string> files;  ///< file name by tensor name; not empty
    std::optional<std::uint64_t> total_size;   ///< bytes of all tensors

    /// Every file once, sorted.
    std::vector<std::string> shards() const;
};

/// `source` names the file in errors. A shard must be named as a file in the index's own folder.
ShardIndex parse_shard_index(const std::string& text, const std::string& source);

}  // namespace ito::nn
