#pragma once
// What a file is that is not what its name says: downloads leave pointers of Git LFS, web pages and empty files under the names
// of weights and pictures, and weights are renamed from one format to another.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace ito {

/// A kind of file as a message may say it: "FILE: is <name>, not a safetensors file; <remedy>".
struct FileKind {
    std::string_view name;    ///< "a Git LFS pointer"; empty where nothing is recognised
    std::string_view remedy;  ///< "fetch the file itself with: git lfs pull"

    explicit operator bool() const { return !name.empty(); }
};

/// As many bytes as recognising a kind may need.
inline constexpr std::size_t file_kind_bytes = 512;

/// By a file's first bytes (all of them if it has fewer than file_kind_bytes). Ask this only about a file that was found not
/// to be what it should be: honest files may begin like others by chance.
FileKind what_it_seems(std::span<const std::byte> begin);

/// Throws Error naming the file if a text that should be JSON is recognised as something else.
void require_json_kind(std::string_view text, const std::string& file);

}  // namespace ito
