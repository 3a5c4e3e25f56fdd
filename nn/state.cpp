#include "nn/state.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/io/safetensors.h"

namespace ito::nn {

namespace fs = std::filesystem;

namespace {

/// [n, h, w, c] -> [n, c, h, w].
std::vector<float> channels_first(const std::vector<float>& in, const Shape& shape) {
    const auto [n, h, w, c] = std::tuple{shape[0], shape[1], shape[2], shape[3]};
    std::vector<float> out(in.size());
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t p = 0; p < h * w; ++p)
            for (std::int64_t k = 0; k < c; ++k)
                out[static_cast<std::size_t>((i * c + k) * h * w + p)] =
                    in[static_cast<std::size_t>((i * h * w + p) * c + k)];
    return out;
}

std::vector<float> channels_last(const std::vector<float>& in, const Shape& shape) {
    const auto [n, h, w, c] = std::tuple{shape[0], shape[1], shape[2], shape[3]};
    std::vector<float> out(in.size());
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t k = 0; k < c; ++k)
            for (std::int64_t p = 0; p < h * w; ++p)
                out[static_cast<std::size_t>((i * h * w + p) * c + k)] =
                    in[static_cast<std::size_t>((i * c + k) * h * w + p)];
    return out;
}

Shape file_shape(const Tensor& tensor) {
    const Shape& s = tensor.shape();
    return s.size() == 4 ? Shape{s[0], s[3], s[1], s[2]} : s;
}

/// The name of `name` in files of older versions; empty if it had no other.
std::string older_name(const std::string& name) {
    for (const auto& [now, then] : {std::pair<std::string, std::string>{".to_q.", ".query."},
                                    {".to_k.", ".key."},
                                    {".to_v.", ".value."},
                                    {".to_out.0.", ".proj_attn."}}) {
        if (const auto at = name.find(now); at != std::string::npos)
            return std::string(name).replace(at, now.size(), then);
    }
    return {};
}

}  // namespace

void save_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors) {
    std::vector<std::vector<float>> values;
    values.reserve(tensors.size());
    std::vector<SafetensorsItem> items;
    for (const auto& [name, tensor] : tensors) {
        auto& data = values.emplace_back(tensor.to_vector<float>());
        if (tensor.rank() == 4) data = channels_first(data, tensor.shape());
        items.push_back({name, DType::float32, file_shape(tensor), std::as_bytes(std::span(data))});
    }
    write_safetensors(path, items);
}

namespace {

/// The common prefix of the names in a file, found before one of the network's names. Empty if some tensor has that name
/// without a prefix.
std::string common_prefix(const WeightFiles& weights, const std::vector<NamedTensor>& tensors) {
    if (tensors.empty()) return {};
    const std::string& name = tensors[0].name;
    if (weights.tensors().contains(name)) return {};
    for (const auto& [key, place] : weights.tensors())
        if (key.ends_with("." + name)) return key.substr(0, key.size() - name.size());
    return {};
}

/// The names of `left`, grouped by the part before the first point, the largest group first: "vae.* (248), other.bias".
std::string groups_of(const std::vector<std::string>& left) {
    std::map<std::string, std::vector<std::string>> groups;
    for (const std::string& name : left) groups[name.substr(0, name.find('.'))].push_back(name);
    std::vector<std::pair<std::size_t, std::string>> sorted;
    for (const auto& [stem, names] : groups)
        sorted.emplace_back(names.size(), names.size() == 1
                                              ? names[0]
                                              : fmt::format("{}.* ({})", excerpt(stem), names.size()));
    std::sort(sorted.rbegin(), sorted.rend());
    std::vector<std::string> lines;
    for (auto& [count, line] : sorted) lines.push_back(std::move(line));
    return listed(lines, 5);
}

/// "F16" is "float16" in prose.
std::string spelled(SafetensorsType type) {
    if (const auto dtype = type.dtype()) return name_of(*dtype);
    return type == SafetensorsType::named("F16") ? "float16" : type.name();
}

void copy_into(Tensor tensor, std::vector<float> data) {
    if (tensor.rank() == 4) data = channels_last(data, tensor.shape());
    tensor.copy_(Tensor::from(data, tensor.shape(), tensor.device()));
}

void require_shape(const fs::path& file, const std::string& name, const SafetensorsEntry& entry,
                   const Shape& shape) {
    require(entry.shape == shape,
            "{}: tensor \"{}\": shape [{}], expected [{}] as the network's configuration has it",
            file.string(), excerpt(name), fmt::join(entry.shape, ", "), fmt::join(shape, ", "));
}

}  // namespace

void load_tensors(const fs::path& path, const std::vector<NamedTensor>& tensors) {
    const SafetensorsFile file(path);
    std::set<std::string> used;
    std::vector<const SafetensorsEntry*> entries;
    for (const auto& [name, tensor] : tensors) {
        const auto& entry = file.at(name, file_shape(tensor));
        require(entry.dtype == DType::float32, "{}: tensor \"{}\" is {}; expected F32", path.string(), name,
                entry.dtype.name());
        entries.push_back(&entry);
        used.insert(name);
    }
    for (const auto& [name, entry] : file.tensors()) {
        require(used.contains(name),
                "{}: tensor \"{}\" has no place in this model; was it made with another "
                "configuration?",
                path.string(), excerpt(name));
    }
    for (std::size_t i = 0; i < tensors.size(); ++i)
        copy_into(tensors[i].tensor, read_float32(file, tensors[i].name, *entries[i]));
}

std::vector<std::string> load_weights(const WeightFiles& weights, const std::vector<NamedTensor>& tensors) {
    const std::string file = weights.path().string(), prefix = common_prefix(weights, tensors);
    std::vector<std::string> notes = weights.notes(), left, keys;
    std::set<std::string> used, types;
    for (const auto& [name, tensor] : tensors) {
        std::string key = prefix + name;
        if (const std::string older = older_name(name);
            !weights.tensors().contains(key) && !older.empty() && weights.tensors().contains(prefix + older))
            key = prefix + older;
        const auto found = weights.tensors().find(key);
        if (found == weights.tensors().end()) {
            std::vector<std::string> names;
            for (const auto& [other, place] : weights.tensors()) names.push_back(other);
            fail("{}: has no tensor \"{}\"; it has {}", file, key, names.empty() ? "none" : groups_of(names));
        }
        const auto& [source, entry] = found->second;
        require_shape(source->path(), key, *entry, file_shape(tensor));
        types.insert(spelled(entry->dtype));
        used.insert(key);
        keys.push_back(std::move(key));
    }
    for (const auto& [name, place] : weights.tensors())
        if (!used.contains(name)) left.push_back(name);
    require(left.empty(), "{}: {} tensors have no place in this network: {}; {}", file, left.size(),
            groups_of(left),
            prefix.empty() ? "was it made with another configuration?"
                           : fmt::format("save what is under \"{}\" alone", excerpt(prefix)));

    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const auto& [source, entry] = weights.tensors().at(keys[i]);
        copy_into(tensors[i].tensor, read_float32(*source, keys[i], *entry));
    }
    if (!tensors.empty() && types != std::set<std::string>{spelled(DType::float32)})
        notes.push_back(fmt::format("weights: {}, converted to float32", fmt::join(types, " and ")));
    if (!prefix.empty())
        notes.push_back(fmt::format("weights: names without the prefix \"{}\"", excerpt(prefix)));
    return notes;
}

}  // namespace ito::nn
