#include "core/io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace ito {
namespace {

struct Status {
    std::uint64_t size = 0;
    std::int64_t modified_ns = 0;
};

Status status_of(int descriptor, const std::filesystem::path& path) {
    struct ::stat status {};
    require(::fstat(descriptor, &status) == 0, "{}: cannot be read: {}", path.string(), std::strerror(errno));
    require(S_ISREG(status.st_mode), "{}: cannot be read: not a regular file", path.string());
    return {static_cast<std::uint64_t>(status.st_size),
            std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

}  // namespace

InputFile::InputFile(std::filesystem::path path)
    // O_NONBLOCK: opening a pipe must return, to be refused, and not wait for a writer.
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    require(descriptor_ >= 0, "{}: cannot be opened: {}", path_.string(), std::strerror(errno));
    try {
        const Status status = status_of(descriptor_, path_);
        size_ = status.size;
        modified_ns_ = status.modified_ns;
    } catch (...) {
        ::close(descriptor_);
        throw;
    }
}

InputFile::~InputFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_ns_(other.modified_ns_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(size_, other.size_);
    std::swap(modified_ns_, other.modified_ns_);
    return *this;
}

void InputFile::read(std::uint64_t offset, std::span<std::byte> to) const {
    constexpr std::size_t piece = std::size_t{1} << 30;  // Linux reads no more than 2 GiB at once
    std::size_t done = 0;
    while (done < to.size()) {
        const ssize_t got = ::pread(descriptor_, to.data() + done, std::min(piece, to.size() - done),
                                    static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        require(got >= 0, "{}: cannot be read: {}", path_.string(), std::strerror(errno));
        if (got == 0) break;
        done += static_cast<std::size_t>(got);
    }
    const Status now = status_of(descriptor_, path_);
    require(now.size == size_ && now.modified_ns == modified_ns_,
            "{}: was changed while it was read ({} bytes at first, {} now); try again when it is complete",
            path_.string(), size_, now.size);
    require(done == to.size(), "{}: ends after {} bytes, expected {}", path_.string(), offset + done,
            offset + to.size());
}

FileContent::FileContent(const std::filesystem::path& path, std::uint64_t most) {
    const InputFile file(path);
    require(file.size() <= most, "{}: has {} bytes, expected at most {}", path.string(), file.size(), most);
    size_ = static_cast<std::size_t>(file.size());
    data_ = std::make_unique_for_overwrite<std::byte[]>(size_);
    file.read(0, {data_.get(), size_});
}

}  // namespace ito
