#include "nn/shard_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/io/file_kind.h"
#include "core/io/json_depth.h"

namespace ito::nn {
namespace {

using Json = nlohmann::json;

std::string shown(const Json& value) {
    return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

bool is_file_name(const std::string& name) {
    return !name.empty() && name != "." && name != ".." && name.size() <= 255 &&
           std::none_of(name.begin(), name.end(),
                        [](char c) { return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
}

}  // namespace

std::vector<std::string> ShardIndex::shards() const {
    std::set<std::string> names;
    for (const auto& [tensor, file] : files) names.insert(file);
    return {names.begin(), names.end()};
}

ShardIndex parse_shard_index(const std::string& text, const std::string& source) {
    require_json_kind(text, source);
    require_shallow_json(text, source);
    const Json json = Json::parse(text, nullptr, false);
    require(!json.is_discarded() && json.is_object(),
            "{}: not a JSON object (cut short? download or copy it again)", source);
    const auto map = json.find("weight_map");
    require(map != json.end(), "{}: has no \"weight_map\", so it is not the index of a sharded save", source);
    require(map->is_object() && !map->empty(),
            "{}: \"weight_map\" is {}, expected an object of tensor names and file names", source,
            shown(*map));
    ShardIndex index;
    for (const auto& [tensor, file] : map->items()) {
        require(file.is_string(), "{}: \"weight_map\": {} is {}, expected the name of a file", source,
                shown(tensor), shown(file));
        require(is_file_name(file.get_ref<const std::string&>()),
                "{}: \"weight_map\": {} lies in {}, expected the name of a file in the same folder", source,
                shown(tensor), shown(file));
        index.files.emplace(tensor, file.get<std::string>());
    }
    const auto metadata = json.find("metadata");
    if (metadata == json.end() || metadata->is_null()) return index;
    require(metadata->is_object(), "{}: \"metadata\" is {}, expected an object", source, shown(*metadata));
    const auto size = metadata->find("total_size");
    if (size == metadata->end()) return index;
    // Some writers make it a float.
    const double bytes = size->is_number() ? size->get<double>() : -1;
    require(bytes >= 0 && bytes < 1e18, "{}: \"total_size\" is {}, expected a number of bytes", source,
            shown(*size));
    index.total_size =
        size->is_number_integer() ? size->get<std::uint64_t>() : static_cast<std::uint64_t>(bytes);
    return index;
}

}  // namespace ito::nn
