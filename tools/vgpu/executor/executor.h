// Runs the blocks of one launch, one after another, on the calling host thread.
//
// A block's threads run one at a time. A thread runs until it waits; then the next one of the schedule goes on. A
// thread that was never started begins on the fiber of one that has ended, as an ordinary call: threads that never
// wait cost a call each.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/vgpu/control.h"
#include "tools/vgpu/device/control.h"
#include "tools/vgpu/device/thread.h"
#include "tools/vgpu/executor/fiber.h"
#include "tools/vgpu/kernel.h"
#include "tools/vgpu/report.h"

namespace vgpu::device {

class CounterStore;

enum class State : unsigned char { unstarted, ready, running, waiting, finished };

// What warp-wide instructions wait for; lanes meet by mask and kind.
enum class Meeting {
    shuffle,
    vote,
    match,
    reduce,
    elect,
    warp_sync,
    ldmatrix,
    stmatrix,
    movmatrix,
    mma,
    wmma
};
const char* meeting_name(Meeting kind);

struct AsyncCopies {
    struct Copy {
        U32 address, size;
        unsigned char bytes[16];
    };
    std::vector<Copy> copies;
    std::vector<std::size_t> group_ends;  // of the committed groups, as counts of copies
};

struct ThreadState : Thread {
    Fiber* fiber = nullptr;
    State state = State::unstarted;
    const char* waits_for = nullptr;
    U32 wait_site = 0, wait_mask = 0;
    U32 result = 0;  // of activemask
    std::unique_ptr<AsyncCopies> async;
};

struct Collective {
    bool active = false;
    Meeting kind = Meeting::shuffle;
    U32 mask = 0, arrived = 0;
    void* requests[32] = {};  // on the lanes' stacks
    void (*complete)(class Executor&, struct Warp&, Collective&) = nullptr;
};

struct Warp {
    U32 first = 0;           // thread
    U32 exited = 0;          // lanes that ended, or never existed
    U32 ordered_before = 0;  // identities of this warp below: before its last full __syncwarp
    std::vector<Collective> collectives;
    // clock[a][b]: identities of lane b below are ordered before lane a. Used only after a sync of a part of the warp.
    std::unique_ptr<U32[][32]> clock;
    bool converging = false;  // lanes wait in activemask
};

struct Barrier {
    U32 arrived = 0, count = 0;
    U32 popc = 0;
    bool all = true, any = false;
    U32 result_popc = 0;
    bool result_all = true, result_any = false;
    std::vector<ThreadState*> waiting, arrivers;
};

class Executor : public Block {
  public:
    Executor();
    ~Executor();
    static Executor& of_this_thread();
    static Executor& of(Thread& t) { return static_cast<Executor&>(*t.block); }

    void run(const KernelInfo& kernel, const Launch& launch);

    // --- waiting (schedule.cpp)
    void wait(ThreadState& t, const char* what, U32 site, U32 mask);  // until somebody makes it ready
    void make_ready(ThreadState& t);
    // Makes these threads ready so that the schedule's first comes first; t goes on when its turn comes.
    void yield_after_release(ThreadState& t);
    void yield(ThreadState& t);
    [[noreturn]] void leave(ThreadState& t);  // ends the thread from inside a call
    [[noreturn]] void abort();                // ends the launch
    ThreadState& thread(U32 linear) { return threads_[linear]; }
    U32 thread_count() const { return thread_count_; }
    Warp& warp(const Thread& t) { return warps_[t.linear >> 5]; }
    std::vector<ThreadState*>& in_release_order(std::vector<ThreadState*>& list);
    void release_lanes(const Warp& w, U32 lanes);

    // --- meetings (warp.cpp)
    void meet(ThreadState& t, U32 mask, Meeting kind, void* request,
              void (*complete)(Executor&, Warp&, Collective&), U32 site);
    void check_meetings(Warp& w);
    bool release_converging();

    // --- identities (shared.cpp)
    bool ordered(const ThreadState& me, U32 identity) const;
    U32 owner(U32 identity) const;
    void new_epoch();
    U32 new_identities(const std::vector<ThreadState*>& threads);
    void order_lanes(Warp& w, U32 lanes);
    void order_warps(const std::vector<ThreadState*>& waiting, const std::vector<ThreadState*>& arrivers);
    void begin_shadow(U32 bytes);

    // --- barriers (barrier.cpp)
    Barrier& barrier(U32 index) { return barriers_[index & 15]; }
    void check_barriers();
    void complete_barrier(Barrier& b);

    // --- reports (fault.cpp)
    bool fault(ThreadState& t, Fault kind, U32 site, U64 address, U32 size, const std::string& text);
    const Site& site(U32 index) const { return module_->sites[index]; }
    std::string name(const ThreadState& t) const;  // "thread (1, 0, 0)"
    void report_deadlock();

    const KernelInfo* kernel() const { return kernel_; }
    const ModuleData& module() const { return *module_; }
    CounterStore& counters() { return *counters_; }
    U64 steps = 0;  // %clock
    U32 live() const { return live_; }
    U32 open_barriers = 0;

  private:
    static void fiber_main(Fiber& fiber);
    void run_block(U64 number);
    void start(ThreadState& t);
    void finish(ThreadState& t);
    ThreadState* pick();
    Fiber* take_fiber();
    void go(Fiber& from, ThreadState* next, bool dying);
    U32 random(U32 below);

    const KernelInfo* kernel_ = nullptr;
    const Launch* launch_ = nullptr;
    const ModuleData* module_ = nullptr;
    Schedule schedule_;
    U64 random_state_ = 0;
    Fiber host_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<Fiber*> free_fibers_;
    ThreadState* assigned_ = nullptr;  // what the fiber entered next shall start
    std::unique_ptr<ThreadState[]> threads_;
    std::vector<Warp> warps_;
    U32 thread_count_ = 0, live_ = 0, unstarted_ = 0;
    std::vector<U32> start_order_;     // random schedules
    std::vector<ThreadState*> ready_;  // the next one last
    Barrier barriers_[16];
    U32 shape_[3] = {0, 0, 0};  // the block size that the threads' indices are for
    bool aborted_ = false;

    U32 next_identity_ = 1;
    std::vector<U16> late_owners_;
    std::vector<std::vector<U32>> warp_clock_;
    std::vector<U32> writer_, reader_, other_reader_;
    std::vector<unsigned char> shared_memory_;

    struct ModuleCache {
        std::vector<View> views;
        std::vector<U64> runs;
        std::uint64_t generation = 0;
    };
    std::unordered_map<const ModuleData*, ModuleCache> modules_;
    std::set<std::pair<int, U32>> reported_;
    std::unique_ptr<CounterStore> counters_;
    friend class CounterStore;
};

}  // namespace vgpu::device
