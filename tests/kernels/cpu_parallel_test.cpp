#include "kernels/cpu/parallel.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/common/work_listener.h"

namespace ito::kernels {
namespace {

Context with_threads(int threads) {
    Context context;
    context.threads = threads;
    return context;
}

TEST(ParallelFor, EveryPieceOnceWithAWorkerOfItsOwn) {
    for (const int threads : {1, 2, 4, 7}) {
        for (const std::int64_t pieces : {0, 1, 3, 1000}) {
            std::vector<std::atomic<int>> done(static_cast<std::size_t>(pieces));
            std::vector<std::atomic<int>> busy(static_cast<std::size_t>(threads));
            parallel_for(with_threads(threads), pieces, [&](std::int64_t piece, int worker) {
                ASSERT_LT(worker, threads);
                EXPECT_EQ(busy[static_cast<std::size_t>(worker)].fetch_add(1), 0);
                ++done[static_cast<std::size_t>(piece)];
                busy[static_cast<std::size_t>(worker)].fetch_sub(1);
            });
            for (const auto& count : done) EXPECT_EQ(count, 1);
        }
    }
}

TEST(ParallelFor, ManyShortRegions) {
    std::atomic<std::int64_t> sum = 0;
    for (int i = 0; i < 20000; ++i)
        parallel_for(with_threads(2 + i % 3), 3, [&](std::int64_t piece, int) { sum += piece; });
    EXPECT_EQ(sum, 60000);
}

TEST(ParallelFor, UsesSeveralThreads) {
    // Two pieces that wait for each other can only end on two threads.
    std::atomic<int> arrived = 0;
    parallel_for(with_threads(2), 2, [&](std::int64_t, int) {
        ++arrived;
        while (arrived < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
}

TEST(ParallelFor, TellsItsListenerWhatTheHelpersDid) {
    struct Notes : WorkListener {
        void worked(int worker, std::int64_t done, Time begin, Time end) noexcept override {
            EXPECT_EQ(worker, 1);
            EXPECT_NE(std::this_thread::get_id(), caller);
            EXPECT_LE(begin, end);
            pieces += done;
        }
        const std::thread::id caller = std::this_thread::get_id();
        std::atomic<std::int64_t> pieces = 0;
    } notes;
    std::atomic<int> arrived = 0;
    const auto both = [&](std::int64_t, int) {
        ++arrived;
        while (arrived < 2) std::this_thread::yield();
    };
    work_listener = &notes;
    parallel_for(with_threads(2), 2, both);
    EXPECT_EQ(notes.pieces, 1) << "the other one was the caller's";
    parallel_for(with_threads(1), 2, [](std::int64_t, int) {});
    EXPECT_EQ(notes.pieces, 1);
    // Of this thread's work alone.
    std::thread([&] {
        arrived = 0;
        parallel_for(with_threads(2), 2, both);
    }).join();
    work_listener = nullptr;
    arrived = 0;
    parallel_for(with_threads(2), 2, both);
    EXPECT_EQ(notes.pieces, 1);
}

TEST(ParallelFor, RethrowsTheFirstException) {
    for (int i = 0; i < 100; ++i) {
        EXPECT_THROW(parallel_for(with_threads(4), 50,
                                  [](std::int64_t piece, int) {
                                      if (piece == 7) throw std::runtime_error("seven");
                                  }),
                     std::runtime_error);
    }
    int count = 0;  // and works afterwards
    parallel_for(with_threads(1), 5, [&](std::int64_t, int) { ++count; });
    EXPECT_EQ(count, 5);
}

TEST(ParallelFor, NestsAndRunsFromSeveralThreads) {
    std::atomic<int> count = 0;
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i) {
        callers.emplace_back([&] {
            for (int k = 0; k < 200; ++k) {
                parallel_for(with_threads(2), 4, [&](std::int64_t, int) {
                    parallel_for(with_threads(2), 4, [&](std::int64_t, int worker) {
                        EXPECT_EQ(worker, 0);
                        ++count;
                    });
                });
            }
        });
    }
    for (auto& caller : callers) caller.join();
    EXPECT_EQ(count, 3 * 200 * 16);
}

TEST(ParallelForDeathTest, AProcessMayEndWhileThreadsSleepAndAForkHasNone) {
    const auto sum = [] {
        std::atomic<std::int64_t> total = 0;
        parallel_for(with_threads(4), 100, [&](std::int64_t piece, int) { total += piece; });
        return total.load();
    };
    EXPECT_EQ(sum(), 4950);
    // The child has the pool's memory but not its threads. The leak checker takes what those threads held for
    // lost, so under it the child ends without the checks of exit().
    EXPECT_EXIT(
        {
            alarm(60);
            const int status = sum() == 4950 ? 0 : 1;
#if defined(__SANITIZE_ADDRESS__)
            _exit(status);
#else
            std::exit(status);
#endif
        },
        ::testing::ExitedWithCode(0), "");
}

TEST(ParallelFor, OpenMpRunsOnOneThreadInside) {
    const int before = omp_get_max_threads();
    parallel_for(with_threads(2), 8, [&](std::int64_t, int) { EXPECT_EQ(omp_get_max_threads(), 1); });
    EXPECT_EQ(omp_get_max_threads(), before);
}

}  // namespace
}  // namespace ito::kernels
