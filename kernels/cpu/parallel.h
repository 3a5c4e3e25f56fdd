#pragma once
// The one way in which CPU kernels use several threads.
//
// The threads are the project's own, not OpenMP's. At the end of an OpenMP region all threads must meet: on a busy machine
// each of the five hundred regions of a training step waits for a thread that is not running. (Beside two compilers on
// 2 cores: 38 images/s; 172 with OpenMP's passive waiting, which costs a system call per region on an idle machine.) Here
// the caller takes pieces until none is left, then waits only for those that other threads have begun.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/common/context.h"

namespace ito::kernels {

namespace detail {
/// Calls body(state, piece, worker) for every piece, on the calling thread (worker 0) and up to threads - 1
/// others.
void run_pieces(int threads, std::int64_t pieces, void (*body)(void* state, std::int64_t piece, int worker),
                void* state);
}  // namespace detail

/// Runs body(piece, worker) for every piece in [0, pieces), on up to context.threads threads.
/// `worker` in [0, threads) tells which slice of per-thread scratch the body may use.
///
/// The bitwise rule: the shape alone decides how many pieces there are and what each covers, each piece writes its own
/// outputs (or its own partial sum, added up in a fixed order afterwards), and what a piece computes does not depend on
/// `worker`. Then no result depends on the number of threads.
///
/// Inside the body, libraries that use OpenMP (oneDNN) run on the calling thread only. A parallel_for inside a body, or while
/// another thread's is running, runs its pieces one after another. The first exception of a body is rethrown here after all
/// threads have stopped.
template <class Body>
void parallel_for(const Context& context, std::int64_t pieces, Body&& body) {
    const int threads =
        static_cast<int>(std::clamp<std::int64_t>(context.threads, 1, std::max<std::int64_t>(pieces, 1)));
    detail::run_pieces(
        threads, pieces,
        [](void* state, std::int64_t piece, int worker) {
            (*static_cast<std::remove_reference_t<Body>*>(state))(piece, worker);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
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
