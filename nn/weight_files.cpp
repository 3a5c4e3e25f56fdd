#include "nn/weight_files.h"

#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/io/float16.h"
#include "core/io/input_file.h"
#include "nn/shard_index.h"

namespace ito::nn {

namespace fs = std::filesystem;

WeightFiles::WeightFiles(const fs::path& path) : path_(path) {
    if (path.extension() == ".json") {
        open_shards();
        return;
    }
    files_.push_back(std::make_unique<SafetensorsFile>(path));
    for (const auto& [name, entry] : files_[0]->tensors())
        tensors_.emplace(name, Place{files_[0].get(), &entry});
}

void WeightFiles::open_shards() {
    const std::string source = path_.string();
    const ShardIndex index = parse_shard_index(std::string(FileContent(path_).text()), source);
    const auto shards = index.shards();
    std::vector<std::string> missing;
    for (const std::string& shard : shards)
        if (!fs::exists(path_.parent_path() / shard)) missing.push_back(shard);
    require(missing.empty(), "{}: of {} shards {} are missing: {}; download or copy them again", source,
            shards.size(), missing.size(), listed(missing));

    std::uint64_t bytes = 0;
    std::map<std::string, std::string> elsewhere;  // tensors that are not in the file that the index names
    for (const std::string& shard : shards) {
        files_.push_back(std::make_unique<SafetensorsFile>(path_.parent_path() / shard));
        for (const auto& [name, entry] : files_.back()->tensors()) {
            const auto place = index.files.find(name);
            if (place != index.files.end() && place->second == shard) {
                tensors_.emplace(name, Place{files_.back().get(), &entry});
                bytes += entry.bytes;
            } else {
                elsewhere.emplace(name, shard);
            }
        }
    }
    for (const auto& [name, shard] : index.files) {
        const auto found = elsewhere.find(name);
        require(
            tensors_.contains(name),
            "{}: tensor \"{}\" should lie in {}, and {}; index and shards are of different saves, save the "
            "model again",
            source, excerpt(name), shard,
            found == elsewhere.end() ? "does not" : fmt::format("lies in {}", found->second));
    }
    for (const auto& [name, shard] : elsewhere)
        fail(
            "{}: does not name tensor \"{}\" of {}; index and shards are of different saves, save the model "
            "again",
            source, excerpt(name), shard);
    if (index.total_size && *index.total_size != bytes)
        notes_.push_back(fmt::format("{}: \"total_size\" is {} bytes, the shards hold {}",
                                     path_.filename().string(), *index.total_size, bytes));
}

std::vector<float> read_float32(const SafetensorsFile& file, const std::string& name,
                                const SafetensorsEntry& entry) {
    const SafetensorsType type = entry.dtype;
    std::vector<float> values(static_cast<std::size_t>(entry.bytes) * 8 /
                              static_cast<std::size_t>(type.bits()));
    if (type == DType::float32) {
        file.read(entry, std::as_writable_bytes(std::span(values)));
        return values;
    }
    const auto convert = [&]<class T>(auto&& value_of) {
        std::vector<T> stored(values.size());
        file.read(entry, std::as_writable_bytes(std::span(stored)));
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = value_of(stored[i]);
    };
    if (type == SafetensorsType::named("F16")) {
        convert.operator()<std::uint16_t>(float_of_half);
    } else if (type == DType::bfloat16) {
        convert.operator()<bfloat16>([](bfloat16 value) { return static_cast<float>(value); });
    } else if (type == DType::float64) {
        convert.operator()<double>([&](double value) {
            const auto rounded = static_cast<float>(value);
            require(std::isfinite(rounded) || !std::isfinite(value),
                    "{}: tensor \"{}\": holds {}, which is too large for float32", file.path().string(),
                    excerpt(name), value);
            return rounded;
        });
    } else {
        fail("{}: tensor \"{}\" is {}; weights may be F32, F16, BF16 or F64: save the model in one of them",
             file.path().string(), excerpt(name), type.name());
    }
    return values;
}

}  // namespace ito::nn
