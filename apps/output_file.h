#pragma once
// Files that a command is asked to write: refused before any time is spent where they could not be, and taken from the
// beginning, so that of two commands that are given one name the second is refused and not one of their results lost.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ito::apps {

/// A name in a folder that this process has taken: an empty file with a lock, which the file proper replaces in the end. An
/// empty file that no process holds, as one that was killed leaves, counts as none.
class OutputFile {
  public:
    /// Throws Error naming `option` unless `path` can be written: its folder is there, and nothing has that name (with `force`
    /// a file may, which is to be replaced). `remedy` ends the message about an existing file, say ", or add --force to replace
    /// it".
    OutputFile(const char* option, std::filesystem::path path, bool force, const char* remedy);
    /// Gives the name back if nothing was written.
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    const std::filesystem::path& path() const { return path_; }
    /// What would be written at `path`: the file that a link leads to.
    static std::filesystem::path resolve(std::filesystem::path path);

    /// Writes it whole or not at all, and returns its path: where its folder was moved to, and another one beside it if someone
    /// put a file there meanwhile.
    std::filesystem::path write(std::span<const std::byte> content);
    std::filesystem::path write(std::string_view content) { return write(std::as_bytes(std::span(content))); }

  private:
    /// False if another file has come there since this one was looked at.
    bool take(const char* option, bool force, const char* remedy);
    bool is_ours() const;
    /// Bytes of the file that was taken; -1 if there is none.
    std::int64_t bytes_there() const;
    /// Where the taken name is now, should its folder have been moved.
    std::filesystem::path place() const;

    std::filesystem::path path_;
    bool placeholder_ = false;
    int descriptor_ = -1;
};

}  // namespace ito::apps
