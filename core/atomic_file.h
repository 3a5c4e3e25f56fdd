#pragma once
// Writing a file so that a crash at any moment leaves either the old file or the new one, whole.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ito {

/// Writes beside `target` under a temporary name; commit() flushes it to the disk and renames it into place.
/// Without commit() the temporary file is removed and the target is as it was. The folder must exist.
/// Every failure (no such folder, disk full) throws ito::Error naming the target.
class AtomicFile {
  public:
    explicit AtomicFile(std::filesystem::path target);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
    void commit();

  private:
    [[noreturn]] void fail_here(const char* action, int error) const;

    std::filesystem::path target_;
    std::string temporary_;
    int descriptor_ = -1;
};

/// The whole content at once.
void write_file_atomically(const std::filesystem::path& target, std::span<const std::byte> bytes);
void write_file_atomically(const std::filesystem::path& target, std::string_view text);

}  // namespace ito
