#include "diffusion/run/run_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/io/system.h"

namespace ito::diffusion {

RunLock::RunLock(const std::filesystem::path& file, const std::filesystem::path& folder)
    : folder_(folder), descriptor_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    require(descriptor_ >= 0, "{}: cannot be opened for writing: {}", file.string(), std::strerror(errno));
    // fcntl and not flock: it works across the clients of a network file system, and says who holds the lock.
    struct flock whole = {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    const int error = ::fcntl(descriptor_, F_SETLK, &whole) == 0 ? 0 : errno;
    // Some file systems have no locks. Training works there too, unprotected.
    if (error != EACCES && error != EAGAIN) {
        directory_ = ::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
        return;
    }
    const bool known = ::fcntl(descriptor_, F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    ::close(descriptor_);
    fail("{}: another process{} trains in this run; wait for its end, or stop it with Ctrl-C",
         folder.string(), known && whole.l_pid > 0 ? fmt::format(" ({})", whole.l_pid) : std::string());
}

std::filesystem::path RunLock::folder() const {
    struct ::stat held {
    }, named{};
    if (directory_ < 0 || ::fstat(directory_, &held) != 0) return folder_;
    if (::stat(folder_.c_str(), &named) == 0 && held.st_dev == named.st_dev && held.st_ino == named.st_ino)
        return folder_;
    const auto now = system::path_of(directory_);
    require(now.has_value(), "{}: the folder was removed while it was trained in; nothing can be saved there",
            folder_.string());
    return *now;
}

RunLock::~RunLock() {
    if (directory_ >= 0) ::close(directory_);
    ::close(descriptor_);
}

}  // namespace ito::diffusion
