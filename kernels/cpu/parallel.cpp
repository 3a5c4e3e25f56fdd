#include "kernels/cpu/parallel.h"

#include <omp.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>

#include "kernels/common/work_listener.h"
#include "kernels/cpu/instruction_set.h"

namespace ito::kernels::detail {
namespace {

/// Has to run before a kernel chooses its code or oneDNN makes a primitive. It stands here because every kernel calls
/// parallel_for.
[[maybe_unused]] const bool limited = limit_instruction_set().empty();

/// How long a thread looks for work before it sleeps: longer than the gap between two kernels of a step (a thread
/// that sleeps in every gap wakes on whatever processor is free, often its caller's), and too short to hinder
/// another process.
constexpr std::chrono::microseconds patience{500};

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/// Spins for a while, then sleeps, until `value` is no longer `old`.
template <class T>
void wait_while(const std::atomic<T>& value, T old) {
    const auto end = std::chrono::steady_clock::now() + patience;
    do {
        for (int i = 0; i < 64; ++i) {
            if (value.load(std::memory_order_acquire) != old) return;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    value.wait(old, std::memory_order_acquire);
}

struct Job {
    void (*body)(void*, std::int64_t, int) = nullptr;
    void* state = nullptr;
    std::int64_t pieces = 0;
    int threads = 1;
    WorkListener* listener = nullptr;
    std::atomic<std::int64_t> next = 0;
    std::atomic<bool> failed = false;
    std::exception_ptr failure;

    /// How many pieces this thread has done.
    std::int64_t work(int worker) {
        for (std::int64_t done = 0;; ++done) {
            const std::int64_t piece = next.fetch_add(1, std::memory_order_relaxed);
            if (piece >= pieces || failed.load(std::memory_order_relaxed)) return done;
            try {
                body(state, piece, worker);
            } catch (...) {
                if (!failed.exchange(true)) failure = std::current_exception();
            }
        }
    }

    /// What a thread of the pool does of the job; the listener hears of it.
    void help(int worker) {
        if (listener == nullptr) {
            work(worker);
            return;
        }
        const auto begin = std::chrono::steady_clock::now();
        const std::int64_t done = work(worker);
        if (done > 0) listener->worked(worker, done, begin, std::chrono::steady_clock::now());
    }
};

/// True on a thread that is inside a body.
thread_local bool inside = false;

/// The pool is never destroyed and its threads are detached: they touch nothing but the pool, so the process may
/// end while they sleep. A child made by fork() does not have them and computes on one thread: a caller can finish
/// a job alone.
class Pool {
  public:
    /// False if another thread is using the pool.
    bool run(Job& job) {
        const std::unique_lock lock(mutex_, std::try_to_lock);
        if (!lock) return false;
        start_threads(job.threads - 1);
        job_ = &job;
        gate_.store(open, std::memory_order_release);
        epoch_.fetch_add(1, std::memory_order_release);
        epoch_.notify_all();
        job.work(0);
        // Close the gate, then wait for the threads inside: each is at its last piece.
        std::uint32_t here = gate_.fetch_and(~open, std::memory_order_acq_rel) & ~open;
        while (here != 0) {
            wait_while(gate_, here);
            here = gate_.load(std::memory_order_acquire);
        }
        return true;
    }

  private:
    /// The gate counts the threads inside the job; `open` is set while others may enter.
    static constexpr std::uint32_t open = 1u << 31;

    void start_threads(int wanted) {
        try {
            for (; started_ < wanted && !refused_; ++started_)
                std::thread(&Pool::serve, this, started_ + 1).detach();
        } catch (const std::exception&) {
            refused_ = true;  // the system allows no more: those that are there do the work
        }
    }

    bool enter(int worker) {
        std::uint32_t gate = gate_.load(std::memory_order_acquire);
        while (gate & open) {
            if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
                if (worker < job_->threads) return true;
                leave();
                return false;
            }
        }
        return false;
    }

    void leave() {
        if (gate_.fetch_sub(1, std::memory_order_acq_rel) == 1) gate_.notify_one();
    }

    [[noreturn]] void serve(int worker) {
        omp_set_num_threads(1);
        inside = true;
        std::uint32_t seen = 0;
        while (true) {
            wait_while(epoch_, seen);
            seen = epoch_.load(std::memory_order_acquire);
            if (!enter(worker)) continue;
            job_->help(worker);
            leave();
        }
    }

    std::mutex mutex_;
    int started_ = 0;
    bool refused_ = false;
    Job* job_ = nullptr;
    std::atomic<std::uint32_t> gate_ = 0;
    std::atomic<std::uint32_t> epoch_ = 0;
};

Pool& pool() {
    static Pool& instance = *new Pool;
    return instance;
}

}  // namespace

void run_pieces(int threads, std::int64_t pieces, void (*body)(void*, std::int64_t, int), void* state) {
    if (pieces <= 0) return;
    Job job;
    job.body = body;
    job.state = state;
    job.pieces = pieces;
    job.threads = threads;
    job.listener = work_listener;
    const bool outermost = !inside;
    const int before = omp_get_max_threads();
    inside = true;
    omp_set_num_threads(1);
    if (!outermost || threads <= 1 || !pool().run(job)) job.work(0);
    omp_set_num_threads(before);
    inside = !outermost;
    if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace ito::kernels::detail
