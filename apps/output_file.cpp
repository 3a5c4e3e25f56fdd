#include "apps/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "apps/machine.h"
#include "core/atomic_file.h"
#include "core/error.h"

namespace ito::apps {

namespace fs = std::filesystem;

OutputFile::OutputFile(const char* option, std::filesystem::path path, bool force, const char* remedy)
    : path_(std::move(path)) {
    require(!path_.empty(), "{}: the name is empty; expected a file", option);
    const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
    require(fs::is_directory(folder), "{} {}: the folder {} does not exist", option, path_.string(),
            folder.string());
    require(!fs::is_directory(path_), "{} {}: is a folder", option, path_.string());
    require(!fs::exists(path_) || fs::is_regular_file(path_),
            "{} {}: is no file but a device, a pipe or the like, which is not replaced; choose another name",
            option, path_.string());
    const std::string why = why_not_writable(folder);
    require(why.empty(), "{} {}: the folder {} cannot be written to: {}; choose another", option,
            path_.string(), folder.string(), why);
    while (!take(option, force, remedy)) {
    }
}

bool OutputFile::take(const char* option, bool force, const char* remedy) {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    // A file that may not be read may be replaced all the same; it is not empty, and needs --force.
    require(descriptor_ >= 0 || (force && errno == EACCES && fs::exists(path_)),
            "{} {}: cannot be created: {}", option, path_.string(), std::strerror(errno));
    if (descriptor_ < 0) return true;
    try {
        // flock and not fcntl: the file may be one that this process may read only. Some file systems know no locks.
        require(::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK,
                "{} {}: another process is about to write it; choose another name, or wait for its end",
                option, path_.string());
        if (!is_ours()) {
            ::close(std::exchange(descriptor_, -1));
            return false;
        }
        struct ::stat status {};
        require(force || (::fstat(descriptor_, &status) == 0 && status.st_size == 0),
                "{} {}: exists already; choose another name{}", option, path_.string(), remedy);
    } catch (...) {
        ::close(descriptor_);
        throw;
    }
    return true;
}

bool OutputFile::is_ours() const {
    struct ::stat held {
    }, named{};
    return descriptor_ >= 0 && ::fstat(descriptor_, &held) == 0 && ::stat(path_.c_str(), &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

fs::path OutputFile::write(std::span<const std::byte> content) {
    fs::path free = path_;
    for (int i = 2; descriptor_ >= 0 && fs::exists(free) && !(free == path_ && is_ours()); ++i)
        free.replace_filename(fmt::format("{}-{}{}", path_.stem().string(), i, path_.extension().string()));
    write_file_atomically(free, content);
    return free;
}

OutputFile::~OutputFile() {
    struct ::stat status {};
    if (is_ours() && ::fstat(descriptor_, &status) == 0 && status.st_size == 0) {
        std::error_code ignored;
        fs::remove(fs::canonical(path_, ignored), ignored);  // a link keeps what it leads to
    }
    if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace ito::apps
