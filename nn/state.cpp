#include "nn/state.h"

#include <set>

#include "core/safetensors.h"

namespace ito::nn {
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

/// The name under which `name` may stand in files of older versions; empty if there is none.
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

void load_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors) {
    const SafetensorsFile file(path);
    std::set<std::string> used;
    std::vector<const SafetensorsEntry*> entries;
    for (const auto& [name, tensor] : tensors) {
        const std::string older = older_name(name);
        const std::string& key =
            !file.contains(name) && !older.empty() && file.contains(older) ? older : name;
        const auto& entry = file.at(key, file_shape(tensor));
        require(entry.dtype == DType::float32, "{}: tensor \"{}\" is {}; expected float32", path.string(),
                key, name_of(entry.dtype));
        entries.push_back(&entry);
        used.insert(key);
    }
    for (const auto& [name, entry] : file.tensors()) {
        require(used.contains(name),
                "{}: tensor \"{}\" has no place in this model; was it made with another "
                "configuration?",
                path.string(), name);
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        Tensor tensor = tensors[i].tensor;
        std::vector<float> data(static_cast<std::size_t>(tensor.numel()));
        file.read(*entries[i], std::as_writable_bytes(std::span(data)));
        if (tensor.rank() == 4) data = channels_last(data, tensor.shape());
        tensor.copy_(Tensor::from(data, tensor.shape(), tensor.device()));
    }
}

}  // namespace ito::nn
