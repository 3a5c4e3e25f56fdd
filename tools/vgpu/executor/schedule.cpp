// Which thread runs next, and the life of a block.
#include <algorithm>
#include <cstring>

#include "tools/vgpu/executor/counters.h"
#include "tools/vgpu/executor/executor.h"
#include "tools/vgpu/memory.h"

namespace vgpu::device {

Executor::Executor() : counters_(std::make_unique<CounterStore>()) {}
Executor::~Executor() = default;

Executor& Executor::of_this_thread() {
    thread_local Executor executor;
    return executor;
}

U32 Executor::random(U32 below) {
    random_state_ += 0x9E3779B97F4A7C15;  // splitmix64
    U64 z = random_state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    return static_cast<U32>((z >> 32) * below >> 32);
}

ThreadState* Executor::pick() {
    if (ready_.empty() && unstarted_ == 0 && !release_converging()) {
        return nullptr;
    }
    const auto ready = static_cast<U32>(ready_.size());
    if (schedule_.order == Order::random) {
        const U32 choice = random(ready + unstarted_);
        if (choice < ready) {
            std::swap(ready_[choice], ready_.back());
        } else {
            std::swap(start_order_[choice - ready], start_order_[unstarted_ - 1]);
            return &threads_[start_order_[--unstarted_]];
        }
    } else if (ready == 0) {
        --unstarted_;
        return &threads_[schedule_.order == Order::forward ? thread_count_ - 1 - unstarted_ : unstarted_];
    }
    ThreadState* t = ready_.back();
    ready_.pop_back();
    return t;
}

Fiber* Executor::take_fiber() {
    if (free_fibers_.empty()) {
        fibers_.push_back(std::make_unique<Fiber>(&Executor::fiber_main, this, fibers_.size()));
        return fibers_.back().get();
    }
    Fiber* fiber = free_fibers_.back();
    free_fibers_.pop_back();
    return fiber;
}

void Executor::go(Fiber& from, ThreadState* next, bool dying) {
    Fiber* to = &host_;
    if (next != nullptr) {
        if (next->fiber == nullptr) {
            next->fiber = take_fiber();
            assigned_ = next;
        }
        to = next->fiber;
        next->state = State::running;
    }
    if (to != &from) {
        Fiber::change(from, *to, dying);
    }
}

// A fiber runs threads to their ends until one that waited elsewhere is next.
void Executor::fiber_main(Fiber& fiber) {
    fiber.arrived();
    Executor& e = *static_cast<Executor*>(fiber.owner());
    for (;;) {
        ThreadState* t = e.assigned_;
        e.start(*t);
        e.finish(*t);
        ThreadState* next = e.pick();
        if (next != nullptr && next->fiber == nullptr) {
            next->fiber = &fiber;
            e.assigned_ = next;
            continue;
        }
        e.free_fibers_.push_back(&fiber);
        e.go(fiber, next, false);
    }
}

void Executor::start(ThreadState& t) {
    t.frames = nullptr;
    t.state = State::running;
    kernel_->data->entry(t, t.params);
}

void Executor::finish(ThreadState& t) {
    t.state = State::finished;
    t.fiber = nullptr;
    if (t.async != nullptr) {
        t.async->copies.clear();
        t.async->group_ends.clear();
    }
    --live_;
    Warp& w = warp(t);
    w.exited |= 1u << t.lane();
    if (!w.collectives.empty()) {
        check_meetings(w);
    }
    if (open_barriers != 0) {
        check_barriers();
    }
}

void Executor::leave(ThreadState& t) {
    Fiber& fiber = *t.fiber;
    finish(t);
    ThreadState* next = pick();
    if (next != nullptr && next->fiber == nullptr) {
        next->fiber = take_fiber();
        assigned_ = next;
    }
    fiber.reset();  // no thread returns to what is on this stack
    free_fibers_.push_back(&fiber);
    Fiber scratch;
    go(scratch, next, true);
    __builtin_unreachable();
}

void Executor::abort() {
    aborted_ = true;  // run_block resets the fibers
    Fiber scratch;
    Fiber::change(scratch, host_, true);
    __builtin_unreachable();
}

void Executor::make_ready(ThreadState& t) {
    t.state = State::ready;
    ready_.push_back(&t);
}

std::vector<ThreadState*>& Executor::in_release_order(std::vector<ThreadState*>& list) {
    const auto before = [this](const ThreadState* a, const ThreadState* b) {
        return schedule_.order == Order::reverse ? a->linear < b->linear : a->linear > b->linear;
    };
    std::reverse(list.begin(), list.end());  // threads arrive in the schedule's order, mostly
    if (!std::is_sorted(list.begin(), list.end(), before)) {
        std::sort(list.begin(), list.end(), before);
    }
    return list;
}

void Executor::release_lanes(const Warp& w, U32 lanes) {
    if (schedule_.order == Order::reverse) {
        for (; lanes != 0; lanes &= lanes - 1) {
            make_ready(threads_[w.first + static_cast<U32>(__builtin_ctz(lanes))]);
        }
    } else {
        while (lanes != 0) {
            const U32 l = 31 - static_cast<U32>(__builtin_clz(lanes));
            lanes &= ~(1u << l);
            make_ready(threads_[w.first + l]);
        }
    }
}

void Executor::wait(ThreadState& t, const char* what, U32 site, U32 mask) {
    t.state = State::waiting;
    t.waits_for = what;
    t.wait_site = site;
    t.wait_mask = mask;
    ThreadState* next = pick();
    if (next == &t) {
        t.state = State::running;
        return;
    }
    go(*t.fiber, next, false);
}

void Executor::yield_after_release(ThreadState& t) {
    ThreadState* next = pick();
    if (next == &t) {
        t.state = State::running;
        return;
    }
    go(*t.fiber, next, false);
}

void Executor::yield(ThreadState& t) {
    t.state = State::ready;
    if (ready_.empty() && unstarted_ == 0) {
        release_converging();
    }
    ready_.insert(ready_.begin(), &t);
    if (schedule_.order != Order::random && ready_.size() == 1 && unstarted_ != 0) {
        ready_.pop_back();  // a thread that was never started goes first
        --unstarted_;
        ThreadState* next =
            &threads_[schedule_.order == Order::forward ? thread_count_ - 1 - unstarted_ : unstarted_];
        ready_.push_back(&t);
        go(*t.fiber, next, false);
        return;
    }
    yield_after_release(t);
}

void Executor::run_block(U64 number) {
    index[0] = static_cast<U32>(number % grid_size[0]);
    index[1] = static_cast<U32>(number / grid_size[0] % grid_size[1]);
    index[2] = static_cast<U32>(number / (U64{grid_size[0]} * grid_size[1]));
    live_ = unstarted_ = thread_count_;
    ready_.clear();
    begin_shadow(shared_size);
    for (U32 k = 0; k < thread_count_; ++k) {
        threads_[k].state = State::unstarted;
        threads_[k].fiber = nullptr;
        threads_[k].identity = block_first + k;
        threads_[k].spins = 0;
    }
    for (std::size_t k = 0; k < warps_.size(); ++k) {
        Warp& w = warps_[k];
        w.first = static_cast<U32>(k * 32);
        const U32 members = std::min(thread_count_ - w.first, 32u);
        w.exited = members == 32 ? 0 : ~0u << members;
        w.ordered_before = 0;
        w.collectives.clear();
        w.clock.reset();
        w.converging = false;
    }
    if (schedule_.order == Order::random) {
        start_order_.resize(thread_count_);
        for (U32 k = 0; k < thread_count_; ++k) {
            start_order_[k] = k;
        }
    }
    open_barriers = 0;
    for (Barrier& b : barriers_) {
        b.arrived = b.popc = 0;
        b.all = true;
        b.any = false;
        b.waiting.clear();
        b.arrivers.clear();
    }
    go(host_, pick(), false);
    if (!aborted_ && live_ != 0) {
        report_deadlock();
        aborted_ = true;
    }
    if (aborted_) {
        free_fibers_.clear();
        for (const auto& fiber : fibers_) {
            fiber->reset();
            free_fibers_.push_back(fiber.get());
        }
        for (U32 k = 0; k < thread_count_; ++k) {
            threads_[k].async.reset();
        }
    }
    if (counting) {
        counters_->end_group(*this);
    }
}

void Executor::run(const KernelInfo& kernel, const Launch& launch) {
    kernel_ = &kernel;
    launch_ = &launch;
    module_ = kernel.data->module;
    schedule_ = vgpu::schedule();
    random_state_ = schedule_.seed * 0xD1342543DE82EF95 + 1;
    for (int k = 0; k < 3; ++k) {
        grid_size[k] = launch.grid[k];
        block_size[k] = launch.block[k];
    }
    const U32 threads = block_size[0] * block_size[1] * block_size[2];
    static_shared = (static_cast<U32>(kernel.static_shared) + 15) / 16 * 16;
    dynamic_shared = static_cast<U32>(launch.dynamic_shared);
    shared_size = static_shared + dynamic_shared;
    if (shared_memory_.size() < shared_size + 64) {
        shared_memory_.assign(shared_size + 64, 0);
    }
    shared = shared_memory_.data() + (-reinterpret_cast<std::uintptr_t>(shared_memory_.data()) & 63);
    ModuleCache& cache = modules_[module_];
    const std::uint64_t generation = memory_generation();
    if (cache.views.empty() || cache.generation != generation) {
        cache.views.assign(module_->site_count + 1, View{});
        cache.generation = generation;
    }
    cache.runs.assign(module_->block_count + 1, 0);
    views = cache.views.data();
    runs = cache.runs.data();
    operation = current_operation.load();
    if (threads_ == nullptr) {
        threads_ = std::make_unique<ThreadState[]>(1024);
    }
    thread_count_ = threads;
    const bool same_shape = std::equal(shape_, shape_ + 3, block_size);
    for (U32 k = 0; k < threads; ++k) {
        ThreadState& t = threads_[k];
        t.params = static_cast<const unsigned char*>(launch.params);
        if (!same_shape) {
            t.block = this;
            t.linear = k;
            t.tid[0] = k % block_size[0];
            t.tid[1] = k / block_size[0] % block_size[1];
            t.tid[2] = k / (block_size[0] * block_size[1]);
        }
    }
    std::copy_n(block_size, 3, shape_);
    warps_.resize((threads + 31) / 32);
    aborted_ = false;
    reported_.clear();
    counting = counters_->begin_launch(*this);

    const U64 blocks = U64{grid_size[0]} * grid_size[1] * grid_size[2];
    if (schedule_.order == Order::random && blocks <= 0xFFFFFFFF) {
        std::vector<U32> order(blocks);
        for (U64 k = 0; k < blocks; ++k) {
            order[k] = static_cast<U32>(k);
        }
        for (U64 k = blocks; k > 0 && !aborted_; --k) {
            std::swap(order[k - 1], order[random(static_cast<U32>(k))]);
            run_block(order[k - 1]);
        }
    } else {
        for (U64 k = 0; k < blocks && !aborted_; ++k) {
            run_block(schedule_.order == Order::reverse ? blocks - 1 - k : k);
        }
    }
    counters_->end_launch(*this);
}

void yield(Thread& t) {
    Executor::of(t).yield(static_cast<ThreadState&>(t));
}
void exit_thread(Thread& t) {
    Executor::of(t).leave(static_cast<ThreadState&>(t));
}

}  // namespace vgpu::device
