#pragma once
// Files that a command is asked to write. Their names are reserved before the work begins: a name that cannot be written is
// refused at once, and of two commands with the same name the second is refused, so that no result is lost.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ito::apps {

/// A reserved name: an empty file with a lock, which the real file replaces at the end. An empty file without a lock, which a
/// killed process leaves, counts as none.
class OutputFile {
  public:
    /// Throws Error naming `option` unless `path` can be written: its folder exists, and no file has that name, or `force` allows
    /// to replace it. `remedy` ends the message about an existing file, for example ", or add --force to replace it".
    OutputFile(const char* option, std::filesystem::path path, bool force, const char* remedy);
    /// Frees the name if nothing was written.
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    const std::filesystem::path& path() const { return path_; }
    /// What would be written at `path`: the file that a link leads to.
    static std::filesystem::path resolve(std::filesystem::path path);

    /// Writes all or nothing, and returns the path. It follows a folder that was moved, and chooses another name beside it if
    /// someone wrote a file there meanwhile.
    std::filesystem::path write(std::span<const std::byte> content);
    std::filesystem::path write(std::string_view content) { return write(std::as_bytes(std::span(content))); }

  private:
    /// False if another file has that name since this one was opened.
    bool take(const char* option, bool force, const char* remedy);
    bool is_ours() const;
    /// Size of the file that was opened; -1 if there is none.
    std::int64_t bytes_there() const;
    /// The path now, in case its folder was moved.
    std::filesystem::path place() const;

    std::filesystem::path path_;
    bool placeholder_ = false;
    int descriptor_ = -1;
};

}  // namespace ito::apps
