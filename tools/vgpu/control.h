// Switches of the virtual GPU, for tests and for the environment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vgpu {

// --- schedule ------------------------------------------------------------------------------------
// The order in which streams (and, in the device half, blocks and threads) take their turns. All are legal.
// forward: as enqueued. reverse: the latest ready operation first, and no more than a synchronisation needs.
// random: seeded. Also VGPU_SCHEDULE=forward|reverse|random:SEED.
enum class Order { forward, reverse, random };
struct Schedule {
    Order order = Order::forward;
    std::uint64_t seed = 0;
};
void set_schedule(Schedule schedule);
Schedule schedule();

// --- profile -------------------------------------------------------------------------------------
// The device that is shown: "h100" (default), "a100", "rtx4090", or "none" (no driver: cudaGetDeviceCount
// returns 35 and leaves its output unwritten). Also VGPU_PROFILE. Throws std::invalid_argument for other
// names.
void set_profile(const std::string& name);

struct Profile {
    const char* name;       // "h100"
    const char* full_name;  // as cudaDeviceProp::name
    int major, minor;
    int multiprocessors;
    std::size_t memory;
    std::size_t shared_per_block, shared_per_block_optin, shared_per_multiprocessor, shared_reserved;
    int threads_per_multiprocessor, blocks_per_multiprocessor;
    int registers_per_multiprocessor;
    int l2_bytes, bus_width, clock_khz, memory_clock_khz;
};
const Profile& profile();

// --- fault injection -----------------------------------------------------------------------------
// The nth call (from 1) of this name from now on returns the error and does nothing else; once. An error of
// the sticky kind (cudaErrorIllegalAddress ...) stays, as CUDA defines. Also
// VGPU_FAIL=call:nth:error[,call:nth:error...].
void fail_next(const std::string& call, unsigned nth, int error);

// --- leaks ---------------------------------------------------------------------------------------
struct Leak {
    // "stream", "event", "graph", "graph exec", "device memory", "pinned memory", "registered memory",
    // "cuBLASLt handle", "cuBLASLt descriptor", "cuDNN handle" or "cuDNN descriptor"
    std::string what;
    std::size_t count = 0;
    std::size_t bytes = 0;
    std::string example;  // the first of them, described
};
// What is alive now. At the exit of the process each is reported as Fault::leak unless VGPU_LEAKS=0.
std::vector<Leak> leaks();

// Runs all that is queued, then destroys every stream, event, graph and allocation, forgets errors, planned
// failures, reports and their handler: what a fresh process would see. Schedule and profile return to the
// environment's. For tests; translated modules and registered kernels stay, their variables get their initial
// values.
void reset();

}  // namespace vgpu

// --- for programs that may not include this folder ---------------------------------------------------
// A program that is linked with cudart or with the virtual GPU declares these two weak: null with cudart. `ito bench
// kernels` does.
extern "C" {
// on: counts from zero; off: keeps what was counted.
void vgpu_count(int on);
// The sum over all kernels of a field of vgpu::Counters by its name (kernel.h): "launches", "blocks", "threads",
// "global_load_requests" ..., "unique_bytes_written", and "instructions" of all kinds. Ends the program for another name.
unsigned long long vgpu_counter(const char* name);
}
