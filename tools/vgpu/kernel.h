// What translated modules offer and how a kernel is run: the interface between the host half (the stand-in
// runtime) and the device half (ptx2cpp's output and the executor).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vgpu {

namespace device {
class Thread;
struct KernelData;
}  // namespace device

struct ParamInfo {
    std::size_t offset = 0, size = 0, alignment = 0;
};

// A place in a variable's initial value that holds another variable's (or function's) address: the 64-bit
// word at `offset` is *target + addend, to be filled in once every variable of the module has its address.
struct Relocation {
    std::size_t offset = 0;
    const std::uint64_t* target = nullptr;
    std::uint64_t addend = 0;
};

struct GlobalVariable {
    const char* name = nullptr;
    std::size_t size = 0, alignment = 0;
    const void* initial = nullptr;  // `size` bytes, or null: zeros
    std::uint64_t* address =
        nullptr;  // filled in by the host half when the module is loaded: the device address
    bool constant = false;
    std::vector<Relocation> relocations;  // to be applied to the copy of `initial` in device memory
};

struct KernelInfo {
    const char* name = nullptr;  // mangled
    std::vector<ParamInfo> params;
    std::size_t param_bytes = 0, static_shared = 0;
    int max_threads = 0;  // of __launch_bounds__ (.maxntid), 0 if none
    int line = 0;
    const char* file = nullptr;
    std::uint64_t module = 0;
    const device::KernelData* data = nullptr;  // the executor's own
};

struct ModuleInfo {
    std::uint64_t id = 0;  // module_id of the PTX text
    std::vector<KernelInfo> kernels;
    std::vector<GlobalVariable> globals;
};

void register_module(const ModuleInfo& module);   // called by static initialisers of translated modules
const ModuleInfo* find_module(std::uint64_t id);  // null if there is none
std::vector<const ModuleInfo*> registered_modules();

struct Launch {
    unsigned grid[3] = {1, 1, 1};
    unsigned block[3] = {1, 1, 1};
    std::size_t dynamic_shared = 0;
    const void* params = nullptr;  // param_bytes bytes, each parameter at its ParamInfo::offset
};

// Empty if the launch obeys the limits of profile() and of the kernel; otherwise what is wrong. The opt-in for more
// than 48 KB of dynamic shared memory (cudaFuncSetAttribute) is the caller's to check.
std::string check_launch(const KernelInfo& kernel, const Launch& launch);

// Runs the kernel to completion on the calling host thread, in the order of schedule(). Faults go to
// vgpu::report(); an access that cannot be carried out (out of bounds, misaligned), a deadlock, a trap or a failed
// assertion ends the launch. Different host threads may run kernels at the same time.
void run_kernel(const KernelInfo& kernel, const Launch& launch);

// --- counters --------------------------------------------------------------------------------------------------
enum class InstructionKind {
    integer,
    floating,
    special,  // rcp, sqrt, ex2, sin ...
    conversion,
    global_memory,  // also generic and constant accesses
    shared_memory,
    local_memory,
    atomic,
    control,
    barrier,
    shuffle,  // shfl, vote, match, redux
    matrix,   // mma, wmma, ldmatrix
    count
};
const char* instruction_kind_name(InstructionKind kind);

struct Counters {
    std::string kernel, file;  // the mangled name
    int line = 0;
    std::uint64_t launches = 0, blocks = 0, threads = 0;
    // Per thread (32 for an instruction that a full warp executes). Predicated-off instructions count.
    std::uint64_t instructions[static_cast<int>(InstructionKind::count)] = {};
    // A request is one instruction of one warp; a sector is 32 bytes of global memory that it touches.
    // Ideal for 4-byte accesses: 4 sectors per request.
    std::uint64_t global_load_requests = 0, global_load_sectors = 0;
    std::uint64_t global_store_requests = 0, global_store_sectors = 0;
    // Passes that the 32 banks need; a request without conflicts needs one (two for 8-byte, four for 16-byte accesses
    // of a full warp). bank_conflicts counts the passes beyond that.
    std::uint64_t shared_requests = 0, shared_passes = 0, bank_conflicts = 0;
    std::uint64_t bytes_read = 0, bytes_written = 0;                // global memory, all accesses
    std::uint64_t unique_bytes_read = 0, unique_bytes_written = 0;  // each byte once per launch
};

// Counting is off at first (it costs about as much again as running); also VGPU_COUNTERS=1, which prints a table
// when the process ends.
void enable_counters(bool on);
std::vector<Counters> counters();  // one entry per kernel that ran while counting was on
void reset_counters();
std::string counters_table();
// For stand-ins of library calls: adds what one call did, if counting is on.
void count_library_call(const Counters& call);

}  // namespace vgpu
