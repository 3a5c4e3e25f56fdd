#include "core/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace ito {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& file) {
    return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
    require(target_.has_filename(), "{}: is a folder, expected the name of a file to write",
            target_.string());
    // Unique among threads and processes, so that two writers of one file cannot mix their bytes.
    static std::atomic<unsigned> counter{0};
    temporary_ = fmt::format("{}.{}.{}.tmp", target_.string(), ::getpid(), counter.fetch_add(1));
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_here("cannot be created", errno);
}

AtomicFile::~AtomicFile() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
}

void AtomicFile::fail_here(const char* action, int error) const {
    fail("{}: {}: {}", target_.string(), action, std::strerror(error));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    require(descriptor_ >= 0, "{}: is already committed", target_.string());
    while (!bytes.empty()) {
        const std::size_t piece = std::min<std::size_t>(bytes.size(), std::size_t{1} << 30);
        const ::ssize_t written = ::write(descriptor_, bytes.data(), piece);
        if (written < 0) {
            if (errno == EINTR) continue;
            fail_here("cannot be written", errno);
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

void AtomicFile::commit() {
    require(descriptor_ >= 0, "{}: is already committed", target_.string());
    // The content first, then the name, then the folder that holds the name: a power cut between any two
    // leaves a whole file under the final name.
    if (::fsync(descriptor_) != 0) fail_here("cannot be flushed", errno);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_here("cannot be renamed into place", errno);
    const int closed = ::close(std::exchange(descriptor_, -1));
    if (closed != 0) fail_here("cannot be closed", errno);

    const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) fail_here("its folder cannot be opened", errno);
    const int flushed = ::fsync(folder);
    const int error = errno;
    ::close(folder);
    // Some file systems cannot flush a folder and say so with EINVAL; there is nothing more to do there.
    if (flushed != 0 && error != EINVAL) fail_here("its folder cannot be flushed", error);
}

void write_file_atomically(const std::filesystem::path& target, std::span<const std::byte> bytes) {
    AtomicFile file(target);
    file.write(bytes);
    file.commit();
}

void write_file_atomically(const std::filesystem::path& target, std::string_view text) {
    write_file_atomically(target, std::as_bytes(std::span(text)));
}

}  // namespace ito
