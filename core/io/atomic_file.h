#pragma once
// Writes a file, or a folder of files, so that a crash at any moment leaves either the complete old one or the complete new
// one.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ito {

/// Writes beside `target` under a temporary name; commit() flushes it to the disk and renames it into place.
/// Without commit() the temporary file is removed and the target does not change. The folder must exist.
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

/// Writes a whole file.
void write_file_atomically(const std::filesystem::path& target, std::span<const std::byte> bytes);
void write_file_atomically(const std::filesystem::path& target, std::string_view text);

/// Renames and flushes the folder that holds the new name. `to` is replaced if it is a file. Throws Error naming
/// `to`.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// A folder that appears under its name only when it is complete: it is filled under a temporary name beside
/// `target`, and commit() renames it. Without commit() it is removed with its contents. The constructor removes what a
/// killed process left under the temporary name.
class AtomicFolder {
  public:
    explicit AtomicFolder(std::filesystem::path target);
    ~AtomicFolder();
    AtomicFolder(const AtomicFolder&) = delete;
    AtomicFolder& operator=(const AtomicFolder&) = delete;

    /// The folder to write the files to. Their writers flush them, as AtomicFile does.
    const std::filesystem::path& path() const { return temporary_; }
    /// The target must not exist.
    void commit();

  private:
    std::filesystem::path target_, temporary_;
    bool committed_ = false;
};

/// Removes the temporary files and folders that killed processes left directly in `folder`. No process may be writing
/// there.
void remove_abandoned(const std::filesystem::path& folder);

}  // namespace ito
