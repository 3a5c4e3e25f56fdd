#pragma once
// A file of the disk as a read-only span.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace ito {

/// Maps a regular file. The bytes stay valid for the object's lifetime, also when the file is deleted or
/// replaced by a rename (which is how this project writes); truncating a mapped file in place is not
/// survivable.
class MappedFile {
  public:
    /// Throws ito::Error naming the file if it is missing, unreadable or not a regular file.
    explicit MappedFile(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;

    std::span<const std::byte> bytes() const { return {data_, size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  private:
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace ito
