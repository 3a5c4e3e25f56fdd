#include "core/io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.h"

namespace ito {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& file) {
    return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

/// Flushes the folder of `target`, so that a rename in it survives a power cut.
void flush_folder_of(const std::filesystem::path& target) {
    const int folder = ::open(folder_of(target).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) fail("{}: its folder cannot be opened: {}", target.string(), std::strerror(errno));
    const int flushed = ::fsync(folder);
    const int error = errno;
    ::close(folder);
    // Some file systems cannot flush a folder and return EINVAL. Nothing more can be done there.
    if (flushed != 0 && error != EINVAL)
        fail("{}: its folder cannot be flushed: {}", target.string(), std::strerror(error));
}

/// Whether a name has the form of AtomicFile's temporary names: <target>.<process>.<number>.tmp.
bool is_temporary_file(std::string_view name) {
    if (!name.ends_with(".tmp")) return false;
    name.remove_suffix(4);
    for (int i = 0; i < 2; ++i) {
        const auto digits = name.find_last_not_of("0123456789");
        if (digits == std::string_view::npos || name[digits] != '.' || digits + 1 == name.size())
            return false;
        name = name.substr(0, digits);
    }
    return !name.empty();
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
    require(target_.has_filename(), "{}: is a folder, expected the name of a file to write",
            target_.string());
    // Unique among threads and processes, so that two writers of one file cannot mix their bytes. The name may still
    // exist: in a container the next run can have the number of a process that was killed.
    static std::atomic<unsigned> counter{0};
    do {
        temporary_ = fmt::format("{}.{}.{}.tmp", target_.string(), ::getpid(), counter.fetch_add(1));
        descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
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
    // Flush the content, rename, flush the folder: a power cut between any two leaves a whole file under the final
    // name.
    if (::fsync(descriptor_) != 0) fail_here("cannot be flushed", errno);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_here("cannot be renamed into place", errno);
    const int closed = ::close(std::exchange(descriptor_, -1));
    if (closed != 0) fail_here("cannot be closed", errno);
    flush_folder_of(target_);
}

void write_file_atomically(const std::filesystem::path& target, std::span<const std::byte> bytes) {
    AtomicFile file(target);
    file.write(bytes);
    file.commit();
}

void write_file_atomically(const std::filesystem::path& target, std::string_view text) {
    write_file_atomically(target, std::as_bytes(std::span(text)));
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0)
        fail("{}: cannot be renamed into place: {}", to.string(), std::strerror(errno));
    flush_folder_of(to);
}

AtomicFolder::AtomicFolder(std::filesystem::path target)
    : target_(std::move(target)),
      temporary_(folder_of(target_) / fmt::format(".{}.tmp", target_.filename().string())) {
    std::error_code error;
    std::filesystem::remove_all(temporary_, error);
    // Does not create parents: if somebody moved them away, new ones in their place would be wrong.
    if (!error) std::filesystem::create_directory(temporary_, error);
    require(!error, "{}: cannot be created: {}", target_.string(), error.message());
}

AtomicFolder::~AtomicFolder() {
    std::error_code ignored;
    if (!committed_) std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
    require(!committed_, "{}: is already committed", target_.string());
    rename_durably(temporary_, target_);
    committed_ = true;
}

void remove_abandoned(const std::filesystem::path& folder) {
    std::error_code error, ignored;
    std::vector<std::filesystem::path> entries;
    std::filesystem::directory_iterator entry(folder, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error))
        entries.push_back(entry->path());
    for (const auto& path : entries) {
        const std::string name = path.filename().string();
        const bool is_folder = std::filesystem::is_directory(path, ignored);
        if (is_folder ? name.starts_with('.') && name.ends_with(".tmp") : is_temporary_file(name))
            std::filesystem::remove_all(path, ignored);
    }
}

}  // namespace ito
