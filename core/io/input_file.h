#pragma once
// Reads files with read(), not mmap: a mapped file that shrinks (a synchronisation, a new download, a network file system)
// kills the process by SIGBUS, and not every file system can map. A file that changes while it is read is an Error that names
// it.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace ito {

/// An open regular file, read at any offset. It stays readable when it is deleted or replaced by a rename, which is how this
/// project writes. All errors are ito::Error naming the file.
class InputFile {
  public:
    /// Throws if the file is missing, unreadable or not a regular file.
    explicit InputFile(std::filesystem::path path);
    ~InputFile();
    InputFile(InputFile&& other) noexcept;
    InputFile& operator=(InputFile&& other) noexcept;

    const std::filesystem::path& path() const { return path_; }
    /// Its bytes when it was opened.
    std::uint64_t size() const { return size_; }

    /// Fills `to` from `offset`; throws if there are fewer bytes, or if the file was written to since it was opened.
    void read(std::uint64_t offset, std::span<std::byte> to) const;

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
    std::int64_t modified_ns_ = 0;
};

/// A whole file in memory.
class FileContent {
  public:
    /// The default limit, for files other than weights: pictures, texts, batches of CIFAR-10.
    static constexpr std::uint64_t largest = std::uint64_t{1} << 30;

    /// Throws as InputFile does, and if the file has more than `most` bytes.
    explicit FileContent(const std::filesystem::path& path, std::uint64_t most = largest);

    std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_.get()), size_}; }

  private:
    std::unique_ptr<std::byte[]> data_;
    std::size_t size_ = 0;
};

}  // namespace ito
