#include "core/io/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/file_kind.h"

namespace ito {
namespace {

static_assert(std::endian::native == std::endian::little, "the format and this code are little-endian");

using Json = nlohmann::json;

constexpr std::uint64_t max_header_bytes = 100'000'000;  // the limit of the safetensors library
constexpr std::size_t max_rank = 32;
constexpr int max_depth = 3;  // file object, tensor object, array
constexpr const char* metadata_key = "__metadata__";

/// A name from a file for use in an error: quoted, on one line, of bounded length.
std::string quoted(const std::string& name) {
    constexpr std::size_t longest = 200;
    const std::string shown = name.size() > longest ? name.substr(0, longest) + "..." : name;
    return Json(shown).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string quoted(const Json& value) {
    return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// Elements times element size, or nothing if that does not fit 63 bits or is not a whole number of bytes.
std::optional<std::uint64_t> byte_count(SafetensorsType type, std::span<const std::int64_t> shape) {
    const bool packed = type.bits() % 8 != 0;
    std::int64_t size = packed ? type.bits() : type.bits() / 8;
    for (const std::int64_t extent : shape)
        if (extent < 0 || __builtin_mul_overflow(size, extent, &size)) return std::nullopt;
    if (packed && size % 8 != 0) return std::nullopt;
    return static_cast<std::uint64_t>(packed ? size / 8 : size);
}

/// Refuses two equal keys, of which nlohmann's parser silently keeps the last.
class StrictKeys {
  public:
    explicit StrictKeys(const std::string& file) : file_(file) {}

    bool operator()(int depth, Json::parse_event_t event, Json& value) {
        using Event = Json::parse_event_t;
        if (event == Event::object_start || event == Event::array_start) {
            require(depth < max_depth, "{}: header nests deeper than {} levels", file_, max_depth);
        }
        if (event == Event::object_start) keys_.emplace_back();
        if (event == Event::object_end) keys_.pop_back();
        if (event == Event::key) {
            const auto& key = value.get_ref<const std::string&>();
            require(keys_.back().insert(key).second, "{}: header has the key {} twice", file_, quoted(key));
        }
        return true;
    }

  private:
    const std::string& file_;
    std::vector<std::set<std::string>> keys_;
};

Json parse_header(std::string_view text, const std::string& file) {
    require(!text.empty() && text.front() == '{', "{}: header does not begin with '{{'", file);
    const std::size_t end = text.find_last_not_of(' ');
    require(text[end] == '}', "{}: header does not end with '}}' and spaces", file);
    text = text.substr(0, end + 1);
    try {
        // The parser may call a copy of this callback.
        StrictKeys strict(file);
        return Json::parse(text.begin(), text.end(),
                           [&strict](int depth, Json::parse_event_t event, Json& value) {
                               return strict(depth, event, value);
                           });
    } catch (const Json::parse_error& error) {
        fail("{}: header is not valid JSON (at its byte {})", file, error.byte);
    } catch (const Json::exception& error) {
        fail("{}: header is not valid JSON ({})", file, error.what());
    }
}

SafetensorsMetadata read_metadata(const Json& value, const std::string& file) {
    require(value.is_object(), "{}: __metadata__ is {}, expected an object of strings", file,
            value.type_name());
    SafetensorsMetadata metadata;
    for (const auto& [key, text] : value.items()) {
        require(text.is_string(), "{}: __metadata__ {} is {}, expected a string", file, quoted(key),
                text.type_name());
        metadata.emplace(key, text.get<std::string>());
    }
    return metadata;
}

/// A tensor of the header with its place in the buffer.
struct Placed {
    std::string name;
    SafetensorsType dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;
};

Placed read_entry(const std::string& name, const Json& value, const std::string& file) {
    const std::string where = fmt::format("{}: tensor {}", file, quoted(name));
    require(value.is_object(), "{}: is {}, expected an object of dtype, shape and data_offsets", where,
            value.type_name());
    for (const char* key : {"dtype", "shape", "data_offsets"})
        require(value.contains(key), "{}: has no {}", where, key);
    for (const auto& [key, unused] : value.items())
        require(key == "dtype" || key == "shape" || key == "data_offsets",
                "{}: has the key {}, expected only dtype, shape and data_offsets", where, quoted(key));

    Placed placed;
    placed.name = name;
    const Json& dtype = value["dtype"];
    require(dtype.is_string(), "{}: dtype is {}, expected a string", where, dtype.type_name());
    const auto known = SafetensorsType::named(dtype.get<std::string>());
    require(known.has_value(), "{}: dtype {} is unknown, expected one of {}", where, quoted(dtype),
            SafetensorsType::names());
    placed.dtype = *known;

    const Json& shape = value["shape"];
    require(shape.is_array(), "{}: shape is {}, expected an array", where, shape.type_name());
    require(shape.size() <= max_rank, "{}: shape has {} dimensions, expected at most {}", where, shape.size(),
            max_rank);
    for (const Json& extent : shape) {
        require(extent.is_number_unsigned() && extent.get<std::uint64_t>() <= INT64_MAX,
                "{}: shape has the extent {}, expected an integer from 0 to 2^63-1", where, quoted(extent));
        placed.shape.push_back(extent.get<std::int64_t>());
    }

    const Json& offsets = value["data_offsets"];
    require(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() &&
                offsets[1].is_number_unsigned(),
            "{}: data_offsets is {}, expected [begin, end]", where, quoted(offsets));
    placed.begin = offsets[0].get<std::uint64_t>();
    placed.end = offsets[1].get<std::uint64_t>();
    require(placed.begin <= placed.end, "{}: data_offsets begin at {} and end at {}, before that", where,
            placed.begin, placed.end);
    const auto bytes = byte_count(placed.dtype, placed.shape);
    require(bytes.has_value(), "{}: {} [{}] is more than 2^63 bytes, or not whole bytes", where,
            placed.dtype.name(), fmt::join(placed.shape, ", "));
    require(placed.end - placed.begin == *bytes, "{}: {} bytes, expected {} for {} [{}]", where,
            placed.end - placed.begin, *bytes, placed.dtype.name(), fmt::join(placed.shape, ", "));
    return placed;
}

/// Throws unless every byte of the buffer belongs to exactly one tensor.
void check_places(std::vector<Placed>& placed, std::uint64_t buffer_bytes, const std::string& file) {
    std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    std::uint64_t end = 0;
    const std::string* previous = nullptr;
    for (const Placed& tensor : placed) {
        require(tensor.begin >= end, "{}: tensor {}: begins at {}, inside tensor {} which ends at {}", file,
                quoted(tensor.name), tensor.begin, previous ? quoted(*previous) : "", end);
        require(tensor.begin == end, "{}: tensor {}: begins at {}, expected {} (a hole before it)", file,
                quoted(tensor.name), tensor.begin, end);
        require(tensor.end <= buffer_bytes,
                "{}: tensor {}: ends at {}, past the buffer's {} bytes (file cut short? download or copy it "
                "again)",
                file, quoted(tensor.name), tensor.end, buffer_bytes);
        end = tensor.end;
        previous = &tensor.name;
    }
    require(end == buffer_bytes, "{}: {} bytes follow the last tensor, expected none", file,
            buffer_bytes - end);
}

constexpr std::uint64_t length_bytes = 8;

/// The size of the header, from a file's first bytes (`begin`) and its size.
std::uint64_t header_size(std::span<const std::byte> begin, std::uint64_t file_bytes,
                          const std::string& file) {
    if (begin.size() <= length_bytes || begin[length_bytes] != std::byte{'{'}) {
        const FileKind kind = what_it_seems(begin);
        require(!kind, "{}: is {}, not a safetensors file; {}", file, kind.name, kind.remedy);
    }
    require(file_bytes >= length_bytes, "{}: {} bytes, expected at least the 8 of the header's length", file,
            file_bytes);
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, begin.data(), length_bytes);
    require(bytes <= max_header_bytes,
            "{}: header of {} bytes, expected at most {} (not a safetensors file?)", file, bytes,
            max_header_bytes);
    require(bytes <= file_bytes - length_bytes,
            "{}: header of {} bytes, but only {} follow (file cut short? download or copy it again)", file,
            bytes, file_bytes - length_bytes);
    return bytes;
}

SafetensorsContent read_header(std::string_view text, std::uint64_t file_bytes, const std::string& file) {
    const Json header = parse_header(text, file);
    SafetensorsContent content;
    std::vector<Placed> placed;
    for (const auto& [name, value] : header.items()) {
        if (name == metadata_key) {
            content.metadata = read_metadata(value, file);
        } else {
            placed.push_back(read_entry(name, value, file));
        }
    }
    const std::uint64_t buffer = length_bytes + text.size();
    check_places(placed, file_bytes - buffer, file);
    for (Placed& tensor : placed)
        content.tensors.emplace(std::move(tensor.name),
                                SafetensorsEntry{tensor.dtype, std::move(tensor.shape), buffer + tensor.begin,
                                                 tensor.end - tensor.begin});
    return content;
}

SafetensorsContent read_header(const InputFile& in) {
    const std::string file = in.path().string();
    std::array<std::byte, file_kind_bytes> bytes{};
    const auto begin = std::span(bytes).first(std::min<std::uint64_t>(bytes.size(), in.size()));
    in.read(0, begin);
    std::string text(header_size(begin, in.size(), file), '\0');
    in.read(length_bytes, std::as_writable_bytes(std::span(text)));
    return read_header(text, in.size(), file);
}

}  // namespace

std::optional<SafetensorsType> SafetensorsType::named(std::string_view name) {
    for (std::size_t i = 0; i < std::size(table); ++i)
        if (name == table[i].name) {
            SafetensorsType type;
            type.index_ = i;
            return type;
        }
    return std::nullopt;
}

std::string SafetensorsType::names() {
    std::string all;
    for (const Row& row : table) all += fmt::format("{}{}", all.empty() ? "" : ", ", row.name);
    return all;
}

SafetensorsContent parse_safetensors(std::span<const std::byte> bytes, const std::string& file) {
    const std::uint64_t header_bytes = header_size(bytes, bytes.size(), file);
    return read_header(
        {reinterpret_cast<const char*>(bytes.data()) + length_bytes, static_cast<std::size_t>(header_bytes)},
        bytes.size(), file);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), content_(read_header(file_)) {}

void SafetensorsFile::read(const SafetensorsEntry& entry, std::span<std::byte> to) const {
    require(to.size() == entry.bytes, "{}: {} bytes for a tensor of {}", path().string(), to.size(),
            entry.bytes);
    file_.read(entry.offset, to);
}

std::vector<std::byte> SafetensorsFile::read(const SafetensorsEntry& entry) const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(entry.bytes));
    read(entry, bytes);
    return bytes;
}

const SafetensorsEntry& SafetensorsFile::at(const std::string& name) const {
    const auto found = content_.tensors.find(name);
    require(found != content_.tensors.end(), "{}: has no tensor {} (it has {} others)", path().string(),
            quoted(name), content_.tensors.size());
    return found->second;
}

const SafetensorsEntry& SafetensorsFile::at(const std::string& name,
                                            std::span<const std::int64_t> shape) const {
    const SafetensorsEntry& entry = at(name);
    require(std::equal(entry.shape.begin(), entry.shape.end(), shape.begin(), shape.end()),
            "{}: tensor {}: shape [{}], expected [{}]", path().string(), quoted(name),
            fmt::join(entry.shape, ", "), fmt::join(shape, ", "));
    return entry;
}

void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsItem> items,
                       const SafetensorsMetadata& metadata) {
    const std::string file = path.string();
    std::vector<const SafetensorsItem*> order;
    std::set<std::string> names;
    for (const SafetensorsItem& item : items) {
        const std::string where = fmt::format("{}: tensor {}", file, quoted(item.name));
        require(item.name != metadata_key, "{}: the name is reserved", where);
        require(names.insert(item.name).second, "{}: is given twice", where);
        const auto bytes = byte_count(item.dtype, item.shape);
        require(bytes.has_value() && *bytes == item.data.size(),
                "{}: {} bytes given, expected {} for {} [{}]", where, item.data.size(),
                bytes ? fmt::to_string(*bytes) : "a possible size", item.dtype.name(),
                fmt::join(item.shape, ", "));
        order.push_back(&item);
    }
    std::sort(order.begin(), order.end(), [](const SafetensorsItem* a, const SafetensorsItem* b) {
        return a->dtype != b->dtype ? a->dtype < b->dtype : a->name < b->name;
    });

    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata.empty()) header[metadata_key] = metadata;
    std::uint64_t end = 0;
    for (const SafetensorsItem* item : order) {
        const std::uint64_t begin = end;
        end += item->data.size();
        nlohmann::ordered_json& entry = header[item->name];
        entry["dtype"] = item->dtype.name();
        entry["shape"] = item->shape;
        entry["data_offsets"] = {begin, end};
    }
    std::string text;
    try {
        text = header.dump();
    } catch (const Json::exception&) {
        fail("{}: a tensor's name or the metadata is not UTF-8", file);
    }
    text.append((8 - text.size() % 8) % 8, ' ');
    require(text.size() <= max_header_bytes, "{}: header of {} bytes, expected at most {}", file, text.size(),
            max_header_bytes);

    const std::uint64_t header_bytes = text.size();
    AtomicFile out(path);
    out.write(std::as_bytes(std::span(&header_bytes, 1)));
    out.write(text);
    for (const SafetensorsItem* item : order) out.write(item->data);
    out.commit();
}

}  // namespace ito
