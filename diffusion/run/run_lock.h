#pragma once
// One training at a time in a run directory, even if the folder is moved meanwhile.

#include <filesystem>

namespace ito::diffusion {

/// Held by the process that trains in a run. The system releases it when the process ends, however it ends: the file
/// itself stays and means nothing. Sampling needs no lock.
class RunLock {
  public:
    /// Locks `file`, and creates it if it is missing. Throws Error naming `folder` and the other process if one holds the
    /// lock. It is a lock between processes: a second one in the same process is not refused.
    RunLock(const std::filesystem::path& file, const std::filesystem::path& folder);
    ~RunLock();
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;

    /// Where the folder is now: another path if it was renamed. Throws Error if it was removed.
    std::filesystem::path folder() const;

  private:
    std::filesystem::path folder_;
    int directory_ = -1;
    int descriptor_ = -1;
};

}  // namespace ito::diffusion
