// The state of a CUDA thread, its warp and its block, as far as translated code touches it.
#pragma once

#include "tools/vgpu/device/types.h"

namespace vgpu {
struct Allocation;
struct KernelInfo;
}  // namespace vgpu

namespace vgpu::device {

class Thread;

// One instruction that may fault, wait or be counted.
struct Site {
    const char* file;
    int line;
    const char* text;  // the opcode
};

// Generic addresses carry their state space in the top byte; global addresses have none.
inline constexpr U64 space_shared = U64{1} << 56;
inline constexpr U64 space_local = U64{2} << 56;
inline constexpr U64 space_param = U64{3} << 56;
inline constexpr U64 space_mask = U64{0xFF} << 56;

// The allocation that a site accessed last: nearly always the next one too.
struct View {
    U64 address = 0, size = 0;
    unsigned char* alias = nullptr;
    unsigned char* initialised = nullptr;
    U32* written_by = nullptr;
    U32* read_by = nullptr;
    const Allocation* allocation = nullptr;
    // What the ordering check of the host half decided last in this operation: words with these marks need not be
    // asked about again.
    U32 operation = 0;
    U32 read_writer = 0, read_reader = 0, read_next = 0;
    U32 write_writer = 0, write_reader = 0;
};

// Who wrote and who read each byte of shared memory last. An identity is the number of a thread's run between
// two synchronisations; numbers only grow, so that one comparison tells whether a barrier lies between.
inline constexpr U32 identity_atomic = 1u << 31;
inline constexpr U32 identity_async = 1u << 30;  // cp.async without its wait
inline constexpr U32 identity_mask = identity_async - 1;
struct SharedShadow {
    U32* writer = nullptr;
    U32* reader = nullptr;
    U32* other_reader = nullptr;  // one more, so that a thread's own read does not hide another's
};

struct Block {
    U32 grid_size[3], block_size[3], index[3];
    U32 shared_size = 0, dynamic_shared = 0, static_shared = 0;
    unsigned char* shared = nullptr;
    SharedShadow shadow;
    U32 block_first = 0;  // identities below: another block, hence uninitialised
    U32 epoch_first = 0;  // identities below: before the last barrier of the whole block
    U32 operation = 0;    // of the stream, for the ordering of global accesses
    bool counting = false;
    View* views = nullptr;  // per site
    U64* runs = nullptr;    // per basic block of the module: how often a thread ran it
};

struct LocalFrame;

class Thread {
  public:
    U32 tid[3] = {0, 0, 0};
    U32 linear = 0;    // within the block
    U32 identity = 0;  // of the current run
    U32 spins = 0;     // strong accesses since the last wait: a thread that polls lets others run
    Block* block = nullptr;
    LocalFrame* frames = nullptr;
    const unsigned char* params = nullptr;
    U32 lane() const { return linear & 31; }
    U32 warp() const { return linear >> 5; }
};

// A function's local memory. The frames of a thread form a list, which is what local addresses are checked against.
struct LocalFrame {
    LocalFrame(Thread& thread, unsigned char* memory, U64 bytes)
        : thread(thread), memory(memory), bytes(bytes), next(thread.frames) {
        thread.frames = this;
    }
    ~LocalFrame() { thread.frames = next; }
    LocalFrame(const LocalFrame&) = delete;
    LocalFrame& operator=(const LocalFrame&) = delete;
    Thread& thread;
    unsigned char* memory;
    U64 bytes;
    LocalFrame* next;
};

using Function = void (*)(Thread&, unsigned char* result, unsigned char* const* arguments);
using Entry = void (*)(Thread&, const unsigned char* params);

// --- what ptx2cpp writes down about a module, as plain data --------------------------------------------------
struct ParamData {
    U32 offset, size, alignment;
};
struct RelocationData {
    U64 offset;
    const U64* target;
    U64 addend;
};
struct VariableData {
    const char* name;
    U64 size, alignment;
    const void* initial;
    U64* address;
    bool constant;
    const RelocationData* relocations;
    U32 relocation_count;
};
struct BlockData {  // of instructions, by InstructionKind
    U16 counts[12];
};
struct ModuleData;
struct KernelData {
    const char* name;
    Entry entry;
    const ParamData* params;
    U32 param_count, param_bytes, static_shared;
    int max_threads;
    Site where;
    const ModuleData* module;
};
struct ModuleData {
    U64 id;
    const Site* sites;
    U32 site_count;
    const BlockData* blocks;
    U32 block_count;
    const KernelData* kernels;
    U32 kernel_count;
    const VariableData* variables;
    U32 variable_count;
};
struct RegisterModule {
    explicit RegisterModule(const ModuleData& module);
};

}  // namespace vgpu::device
