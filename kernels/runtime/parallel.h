#pragma once
// The one way in which CPU kernels use several threads.

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

#include "kernels/runtime/context.h"

namespace ito::kernels {

/// Runs body(piece, worker) for every piece in [0, pieces), on up to context.threads threads.
/// `worker` in [0, threads) tells which slice of per-thread scratch the body may use.
///
/// The bitwise rule: the number and extent of the pieces follow from the shape alone, each piece writes
/// its own outputs (or its own partial sum, added up in a fixed order afterwards), and what a piece
/// computes does not depend on `worker`. Then no result depends on the number of threads.
///
/// Inside the body, libraries that use OpenMP (oneDNN) run on the calling thread only.
/// The first exception thrown by a body is rethrown here after all threads have stopped.
template <class Body>
void parallel_for(const Context& context, std::int64_t pieces, Body&& body) {
    const int threads =
        static_cast<int>(std::clamp<std::int64_t>(context.threads, 1, std::max<std::int64_t>(pieces, 1)));
    std::exception_ptr failure;
    std::atomic<bool> failed = false;
#pragma omp parallel num_threads(threads)
    {
        omp_set_num_threads(1);
        const int worker = omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t piece = 0; piece < pieces; ++piece) {
            if (failed.load(std::memory_order_relaxed)) continue;
            try {
                body(piece, worker);
            } catch (...) {
                if (!failed.exchange(true)) failure = std::current_exception();
            }
        }
    }
    if (failure) std::rethrow_exception(failure);
}

/// Half-open range of elements.
struct Range {
    std::int64_t begin, end;
};

/// Piece `index` of `count` elements cut into pieces of `size` (the last one may be shorter).
inline Range piece_range(std::int64_t count, std::int64_t size, std::int64_t index) {
    const std::int64_t begin = index * size;
    return {begin, std::min(begin + size, count)};
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

/// Elements that one piece of an elementwise kernel covers: large enough to hide the cost of handing it
/// out (16 Ki floats take about 5 us), small enough to share a CIFAR-sized activation among 16 threads.
inline constexpr std::int64_t elementwise_piece = 16384;

}  // namespace ito::kernels
