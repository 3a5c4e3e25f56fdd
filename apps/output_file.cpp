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
#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/system.h"

namespace ito::apps {

namespace fs = std::filesystem;

OutputFile::OutputFile(const char* option, std::filesystem::path path, bool force, const char* remedy)
    : path_(resolve(std::move(path))) {
    constexpr std::size_t longest =
        255 - sizeof ".4194304.9999.tmp";  // while it is written the name is longer
    require(!path_.empty(), "{}: the name is empty; expected a file", option);
    require(path_.filename().string().size() <= longest,
            "{}: the file's name has {} bytes; expected at most {}", option, path_.filename().string().size(),
            longest);
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
    // With --force a file that may not be read can be replaced too.
    require(descriptor_ >= 0 || (force && errno == EACCES && fs::exists(path_)),
            "{} {}: cannot be created: {}", option, path_.string(), std::strerror(errno));
    if (descriptor_ < 0) return true;
    try {
        // flock and not fcntl, which would need the right to write. Some file systems have no locks.
        require(::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK,
                "{} {}: another process is about to write it; choose another name, or wait for its end",
                option, path_.string());
        if (!is_ours()) {
            ::close(std::exchange(descriptor_, -1));
            return false;
        }
        placeholder_ = bytes_there() == 0;
        require(force || placeholder_, "{} {}: exists already; choose another name{}", option, path_.string(),
                remedy);
    } catch (...) {
        ::close(descriptor_);
        throw;
    }
    return true;
}

fs::path OutputFile::resolve(fs::path path) {
    std::error_code error;
    for (int links = 0; links < 40 && fs::is_symlink(path, error); ++links)
        path = path.parent_path() / fs::read_symlink(path, error);
    return path;
}

bool OutputFile::is_ours() const {
    struct ::stat held {
    }, named{};
    return descriptor_ >= 0 && ::fstat(descriptor_, &held) == 0 && ::stat(path_.c_str(), &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

std::int64_t OutputFile::bytes_there() const {
    struct ::stat status {};
    return descriptor_ >= 0 && ::fstat(descriptor_, &status) == 0 ? std::int64_t{status.st_size} : -1;
}

fs::path OutputFile::place() const {
    std::error_code error;
    if (descriptor_ < 0 || fs::is_directory(fs::absolute(path_).parent_path(), error)) return path_;
    return system::path_of(descriptor_).value_or(path_);
}

fs::path OutputFile::write(std::span<const std::byte> content) {
    path_ = place();
    const bool others = placeholder_ && bytes_there() > 0;  // someone else has written into it
    fs::path free = path_;
    for (int i = 2; descriptor_ >= 0 && fs::exists(free) && !(free == path_ && is_ours() && !others); ++i)
        free.replace_filename(fmt::format("{}-{}{}", path_.stem().string(), i, path_.extension().string()));
    write_file_atomically(free, content);
    return free;
}

OutputFile::~OutputFile() {
    path_ = place();
    std::error_code ignored;
    if (is_ours() && bytes_there() == 0) fs::remove(path_, ignored);
    if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace ito::apps
