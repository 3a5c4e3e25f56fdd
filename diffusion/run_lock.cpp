#include "diffusion/run_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace ito::diffusion {

RunLock::RunLock(const std::filesystem::path& file, const std::filesystem::path& folder)
    : descriptor_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    require(descriptor_ >= 0, "{}: cannot be opened for writing: {}", file.string(), std::strerror(errno));
    // fcntl's and not flock's: it works across the clients of a network file system, and knows who holds it.
    struct flock whole = {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (::fcntl(descriptor_, F_SETLK, &whole) == 0) return;
    const int error = errno;
    // Some file systems know no locks. A training there is possible, and on its own.
    if (error != EACCES && error != EAGAIN) return;
    const bool known = ::fcntl(descriptor_, F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    ::close(descriptor_);
    fail("{}: another process{} trains in this run; wait for its end, or stop it with Ctrl-C",
         folder.string(), known && whole.l_pid > 0 ? fmt::format(" ({})", whole.l_pid) : std::string());
}

RunLock::~RunLock() {
    ::close(descriptor_);
}

}  // namespace ito::diffusion
