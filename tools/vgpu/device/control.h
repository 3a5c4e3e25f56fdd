// Everything that makes a thread wait for others, and the special registers.
#pragma once

#include "tools/vgpu/device/memory.h"
#include "tools/vgpu/device/thread.h"

namespace vgpu::device {

// --- barriers (executor/barrier.cpp) ---------------------------------------------------------------------------
enum class Reduction { none, popc, and_, or_ };
// count 0: all threads of the block. Returns the reduction of `value` over the participants.
U32 bar_sync(Thread& t, U32 barrier, U32 count, U32 site, Reduction reduction = Reduction::none,
             bool value = false);
void bar_arrive(Thread& t, U32 barrier, U32 count, U32 site);
void bar_warp_sync(Thread& t, U32 mask, U32 site);
void yield(Thread& t);  // nanosleep: lets the others run

// --- within a warp (executor/warp.cpp) ----------------------------------------------------------------------------
enum class Shuffle { up, down, bfly, idx };
struct ShuffleResult {
    U32 value;
    bool in_range;
};
ShuffleResult shfl_sync(Thread& t, Shuffle mode, U32 value, U32 b, U32 c, U32 mask, U32 site);
enum class Vote { all, any, uni, ballot };
U32 vote_sync(Thread& t, Vote mode, bool value, U32 mask, U32 site);
U32 match_any_sync(Thread& t, U64 value, U32 mask, U32 site);
U32 match_all_sync(Thread& t, U64 value, bool& all, U32 mask, U32 site);
enum class Reduce { add, min, max, and_, or_, xor_ };
U32 redux_sync(Thread& t, Reduce operation, bool is_signed, U32 value, U32 mask, U32 site);
U32 activemask(Thread& t);
U32 elect_sync(Thread& t, bool& elected, U32 mask, U32 site);

// --- cp.async (executor/async.cpp) -----------------------------------------------------------------------------------
void cp_async(Thread& t, U32 shared, U64 global, U32 bytes, U32 from_source, U32 site);
void cp_async_commit(Thread& t);
void cp_async_wait_group(Thread& t, U32 pending);
void cp_async_wait_all(Thread& t);

// --- ends ----------------------------------------------------------------------------------------------------------
[[noreturn]] void exit_thread(Thread& t);  // from inside a function; an entry returns
[[noreturn]] void trap(Thread& t, U32 site);
void vprintf_(Thread& t, unsigned char* result, unsigned char* const* arguments, U32 site);
[[noreturn]] void assertfail(Thread& t, unsigned char* const* arguments, U32 site);
U64 device_malloc(Thread& t, U64 bytes, U32 site);
void device_free(Thread& t, U64 address, U32 site);
[[noreturn]] void bad_call(Thread& t, U32 site);

// --- special registers -------------------------------------------------------------------------------------------
U64 clock64(Thread& t);
inline U32 clock32(Thread& t) {
    return static_cast<U32>(clock64(t));
}
U64 globaltimer(Thread& t);
U32 smid(Thread& t);
U32 nsmid();
inline U32 warp_count(Thread& t) {
    const U32* size = t.block->block_size;
    return (size[0] * size[1] * size[2] + 31) / 32;
}
inline U32 total_shared(Thread& t) {
    return t.block->shared_size;
}

inline void memory_fence() {
    __asm__ volatile("" ::: "memory");
}

}  // namespace vgpu::device
