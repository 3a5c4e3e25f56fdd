#pragma once
// Tensors in a file, in Hugging Face's safetensors format:
//
//   u64 N, little-endian | N bytes of JSON and spaces | the buffer
//
// The spaces make N a multiple of 8. Files of the safetensors library before version 0.3 lack them, and can be read too.
// The JSON maps each name to {"dtype", "shape", "data_offsets": [begin, end]}, with offsets relative to the buffer, and
// "__metadata__" to strings. The reader refuses anything else: tensors that overlap, leave a hole or run past the end,
// duplicate or unknown keys, a size that does not follow from shape and type. Shapes are those of the file: the caller
// changes PyTorch's layout into this project's.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/input_file.h"
#include "kernels/common/dtype.h"

namespace ito {

using SafetensorsMetadata = std::map<std::string, std::string>;

/// An element type of the format, which has more types than DType. The reader accepts all of them; the user of a tensor decides
/// which are allowed.
class SafetensorsType {
  public:
    constexpr SafetensorsType(DType dtype = DType::float32) {  // NOLINT(google-explicit-constructor)
        while (table[index_].dtype != dtype) ++index_;
    }
    /// The type called "F32" or "F8_E4M3"; none for a name that the format does not have.
    static std::optional<SafetensorsType> named(std::string_view name);
    /// The names of all types, separated by commas.
    static std::string names();

    constexpr const char* name() const { return table[index_].name; }
    constexpr int bits() const { return table[index_].bits; }  ///< of an element
    /// None for types that a Tensor cannot have.
    constexpr std::optional<DType> dtype() const { return table[index_].dtype; }

    /// The order in which the safetensors library lays out tensors.
    friend constexpr auto operator<=>(SafetensorsType, SafetensorsType) = default;

  private:
    struct Row {
        const char* name;
        int bits;
        std::optional<DType> dtype;
    };
    static constexpr Row table[] = {{"U64", 64, {}},
                                    {"I64", 64, DType::int64},
                                    {"F64", 64, DType::float64},
                                    {"C64", 64, {}},
                                    {"F32", 32, DType::float32},
                                    {"U32", 32, {}},
                                    {"I32", 32, {}},
                                    {"BF16", 16, DType::bfloat16},
                                    {"F16", 16, {}},
                                    {"U16", 16, {}},
                                    {"I16", 16, {}},
                                    {"F8_E5M2FNUZ", 8, {}},
                                    {"F8_E4M3FNUZ", 8, {}},
                                    {"F8_E8M0", 8, {}},
                                    {"F8_E4M3", 8, {}},
                                    {"F8_E5M2", 8, {}},
                                    {"I8", 8, {}},
                                    {"U8", 8, DType::uint8},
                                    {"F6_E3M2", 6, {}},
                                    {"F6_E2M3", 6, {}},
                                    {"F4", 4, {}},
                                    {"BOOL", 8, {}}};

    std::size_t index_ = 0;
};

/// One tensor of a file. The format does not promise that `offset` is aligned.
struct SafetensorsEntry {
    SafetensorsType dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t offset = 0;  ///< from the beginning of the file
    std::uint64_t bytes = 0;

    std::span<const std::byte> in(std::span<const std::byte> file) const {
        return file.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(bytes));
    }
};

/// The tensors of a file by name, and its metadata.
struct SafetensorsContent {
    std::map<std::string, SafetensorsEntry> tensors;
    SafetensorsMetadata metadata;
};

/// Checks a whole file in memory. `file` names it in errors, each an ito::Error of one line:
/// "<file>: tensor "w": 20 bytes, expected 24 for F32 [2, 3]".
SafetensorsContent parse_safetensors(std::span<const std::byte> bytes, const std::string& file);

/// An open file. The constructor reads and checks the header; read() reads a tensor.
class SafetensorsFile {
  public:
    explicit SafetensorsFile(const std::filesystem::path& path);

    const std::filesystem::path& path() const { return file_.path(); }
    const std::map<std::string, SafetensorsEntry>& tensors() const { return content_.tensors; }
    const SafetensorsMetadata& metadata() const { return content_.metadata; }
    bool contains(const std::string& name) const { return content_.tensors.contains(name); }

    /// The tensor of that name; throws naming the file and the tensor if it is missing.
    const SafetensorsEntry& at(const std::string& name) const;
    /// The same; throws naming both shapes unless the tensor has this one.
    const SafetensorsEntry& at(const std::string& name, std::span<const std::int64_t> shape) const;

    /// Reads the bytes of an entry of this file into `to`, which has the same size.
    void read(const SafetensorsEntry& entry, std::span<std::byte> to) const;
    std::vector<std::byte> read(const SafetensorsEntry& entry) const;

  private:
    InputFile file_;
    SafetensorsContent content_;
};

/// A dense tensor to be written.
struct SafetensorsItem {
    std::string name;
    SafetensorsType dtype;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> data;
};

/// The metadata that Python's loaders expect in a file of weights.
inline SafetensorsMetadata pytorch_metadata() {
    return {{"format", "pt"}};
}

/// Writes atomically (core/io/atomic_file.h). Tensors are in the order of the safetensors library: wider types first, so that
/// each is aligned, then by name.
void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsItem> items,
                       const SafetensorsMetadata& metadata = pytorch_metadata());

}  // namespace ito
