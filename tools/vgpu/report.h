// What the virtual GPU says when a program breaks a rule of CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace vgpu {

enum class Fault {
    out_of_bounds,
    misaligned,
    uninitialised,
    race,
    deadlock,
    lane_exit,
    async_not_waited,
    launch_limit,
    host_access,
    double_free,
    leak,
    missing_event,
    bad_handle,
    unknown,
};

// The words used in messages, such as "out of bounds".
const char* fault_name(Fault kind);

struct Report {
    Fault kind = Fault::unknown;
    std::string kernel;  // the kernel, or the CUDA call for faults of the host; empty: the running operation
    std::string file;    // the .cu file, where known
    int line = 0;
    unsigned block[3] = {0, 0, 0};
    unsigned thread[3] = {0, 0, 0};
    std::uint64_t address = 0;  // the device address, 0 where none is meant
    std::size_t size = 0;       // bytes of the access
    std::string text;           // one sentence or two: what happened, what was expected
};

// Records the report, hands it to the handler, and, when the fault is one that a kernel commits
// (out of bounds to async_not_waited, and unknown) while an operation runs, makes the launch fail: the sticky
// error of the real runtime (cudaErrorIllegalAddress, cudaErrorMisalignedAddress, otherwise
// cudaErrorLaunchFailure) comes back from the next calls. Safe to call from several threads.
void report(Report entry);

// The default handler prints one paragraph to stderr; the same kind in the same kernel and line is printed
// once. A test may install its own; an empty function brings the default back.
void set_report_handler(std::function<void(const Report&)> handler);

// All reports since the start or the last clear_reports(), at most 1000; report_count() counts on.
std::vector<Report> reports();
std::size_t report_count();
void clear_reports();

// The paragraph that the default handler prints.
std::string to_string(const Report& entry);

}  // namespace vgpu
