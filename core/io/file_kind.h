#pragma once
// Recognises files that are not what their names say. Downloads leave Git LFS pointers, web pages and empty files under the
// names of weights and pictures, and people rename weights from one format to another.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace ito {

/// A kind of file, in words for a message: "FILE: is <name>, not a safetensors file; <remedy>".
struct FileKind {
    std::string_view name;    ///< "a Git LFS pointer"; empty if nothing was recognised
    std::string_view remedy;  ///< "fetch the file itself with: git lfs pull"

    explicit operator bool() const { return !name.empty(); }
};

/// The most bytes that what_it_seems() reads.
inline constexpr std::size_t file_kind_bytes = 512;

/// The kind by a file's first bytes (all of them if it has fewer than file_kind_bytes). Call this only for a file that was
/// found to be wrong: a correct file may begin like another kind by chance.
FileKind what_it_seems(std::span<const std::byte> begin);

/// Throws Error naming the file if a text that should be JSON is recognised as something else.
void require_json_kind(std::string_view text, const std::string& file);

}  // namespace ito
