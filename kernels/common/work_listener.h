#pragma once
// Tells traces what the worker threads of parallel_for do.

#include <chrono>
#include <cstdint>

namespace ito::kernels {

/// Derive from it, and set `work_listener`.
class WorkListener {
  public:
    using Time = std::chrono::steady_clock::time_point;

    WorkListener() = default;
    virtual ~WorkListener() = default;
    WorkListener(const WorkListener&) = delete;
    WorkListener& operator=(const WorkListener&) = delete;

    /// Thread `worker` (1 and up) has done `pieces` (1 or more) pieces of a parallel_for. Called on that thread, while the
    /// caller of parallel_for is still in it.
    virtual void worked(int /*worker*/, std::int64_t /*pieces*/, Time /*begin*/, Time /*end*/) noexcept {}
};

/// Hears of each parallel_for that this thread calls; null where there is no listener.
inline constinit thread_local WorkListener* work_listener = nullptr;

}  // namespace ito::kernels
