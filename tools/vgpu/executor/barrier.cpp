// bar.sync, bar.arrive, bar.red. Threads that have ended do not count.
#include "tools/vgpu/executor/counters.h"
#include "tools/vgpu/executor/executor.h"

namespace vgpu::device {

void Executor::complete_barrier(Barrier& b) {
    b.result_popc = b.popc;
    b.result_all = b.all;
    b.result_any = b.any;
    if (b.count == 0 && b.arrivers.empty()) {
        new_epoch();
        if (counting) {
            counters_->end_group(*this);
        }
    } else {
        order_warps(b.waiting, b.arrivers);
    }
    for (ThreadState* t : in_release_order(b.waiting)) {
        make_ready(*t);
    }
    b.arrived = b.popc = 0;
    --open_barriers;
    b.all = true;
    b.any = false;
    b.waiting.clear();
    b.arrivers.clear();
}

void Executor::check_barriers() {
    for (Barrier& b : barriers_) {
        if (b.arrived != 0 && b.count == 0 && b.arrived >= live_) {
            complete_barrier(b);
        }
    }
}

U32 bar_sync(Thread& thread, U32 index, U32 count, U32 site, Reduction reduction, bool value) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    Barrier& b = e.barrier(index);
    static const char* const names[] = {"barrier 0",  "barrier 1",  "barrier 2",  "barrier 3",
                                        "barrier 4",  "barrier 5",  "barrier 6",  "barrier 7",
                                        "barrier 8",  "barrier 9",  "barrier 10", "barrier 11",
                                        "barrier 12", "barrier 13", "barrier 14", "barrier 15"};
    b.count = count >= e.thread_count() ? 0 : count;
    e.open_barriers += b.arrived == 0;
    ++b.arrived;
    b.popc += value ? 1 : 0;
    b.all = b.all && value;
    b.any = b.any || value;
    b.waiting.push_back(&t);
    t.state = State::waiting;
    t.spins = 0;
    if (b.arrived >= (b.count == 0 ? e.live() : b.count)) {
        e.complete_barrier(b);
        e.yield_after_release(t);
    } else {
        e.wait(t, names[index & 15], site, ~0u);
    }
    switch (reduction) {
        case Reduction::popc:
            return b.result_popc;
        case Reduction::and_:
            return b.result_all;
        case Reduction::or_:
            return b.result_any;
        default:
            return 0;
    }
}

void bar_arrive(Thread& thread, U32 index, U32 count, U32) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    Barrier& b = e.barrier(index);
    b.count = count;
    e.open_barriers += b.arrived == 0;
    ++b.arrived;
    b.arrivers.push_back(&t);
    if (b.arrived >= count) {
        e.complete_barrier(b);
    }
}

}  // namespace vgpu::device
