// The index of weights in several files: no shard lies outside of its folder, and written again it is read as the same.

#include <nlohmann/json.hpp>

#include "nn/shard_index.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(shard_index) {
    nn::ShardIndex index;
    if (!fuzz::accepts([&] { index = nn::parse_shard_index(std::string(fuzz::text_of(input)), "f"); }))
        return;
    fuzz::expect(!index.files.empty(), "an index without a tensor");
    for (const std::string& shard : index.shards())
        fuzz::expect(!shard.empty() && shard != "." && shard != ".." && shard.find('/') == std::string::npos,
                     "a shard outside of the folder: {}", shard);
    nlohmann::json json;
    json["weight_map"] = index.files;
    if (index.total_size) json["metadata"]["total_size"] = *index.total_size;
    const nn::ShardIndex again = nn::parse_shard_index(json.dump(), "w");
    fuzz::expect(again.files == index.files && again.total_size == index.total_size, "another index after {}",
                 json.dump());
}
