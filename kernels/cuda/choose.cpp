#include "kernels/cuda/choose.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <memory>
#include <type_traits>

#include "kernels/common/scratch.h"
#include "kernels/cuda/cuda_error.h"

namespace ito::kernels {
namespace {

template <class Handle, auto destroy>
struct Destroy {
    void operator()(Handle handle) const { destroy(handle); }
};
template <class Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<Handle, destroy>>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using Graph = Owned<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

/// Runs of a candidate in its graph: enough for this many milliseconds, at most `most_runs`.
constexpr float enough_ms = 0.2f;
constexpr int most_runs = 8, replays = 2;
/// A first run that takes so much longer than the fastest candidate's is not repeated.
constexpr float hopeless = 3;

class Timer {
  public:
    explicit Timer(cudaStream_t stream) : stream_(stream), begin_(make()), end_(make()) {}

    template <class Work>
    float milliseconds(Work&& work) {
        check_cuda(cudaEventRecord(begin_.get(), stream_), "cudaEventRecord");
        work();
        check_cuda(cudaEventRecord(end_.get(), stream_), "cudaEventRecord");
        check_cuda(cudaEventSynchronize(end_.get()), "cudaEventSynchronize");
        float ms = 0;
        check_cuda(cudaEventElapsedTime(&ms, begin_.get(), end_.get()), "cudaEventElapsedTime");
        return ms;
    }

  private:
    static Event make() {
        cudaEvent_t event = nullptr;
        check_cuda(cudaEventCreate(&event), "cudaEventCreate");
        return Event(event);
    }

    cudaStream_t stream_;
    Event begin_, end_;
};

/// An executable graph of `runs` times the work.
GraphExec capture(cudaStream_t stream, int runs, const std::function<void()>& work) {
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t made = nullptr;
    try {
        for (int i = 0; i < runs; ++i) work();
    } catch (...) {
        cudaStreamEndCapture(stream, &made);
        const Graph graph(made);
        throw;
    }
    check_cuda(cudaStreamEndCapture(stream, &made), "cudaStreamEndCapture");
    const Graph graph(made);
    cudaGraphExec_t exec = nullptr;
    check_cuda(cudaGraphInstantiate(&exec, graph.get(), 0), "cudaGraphInstantiate");
    return GraphExec(exec);
}

/// Milliseconds of one run; the first run's where that is hopeless.
float time_of(cudaStream_t stream, Timer& timer, float best, const std::function<void()>& work) {
    work();  // loads what is loaded late
    const float first = timer.milliseconds(work);
    if (first > hopeless * best) return first;
    const int runs = std::clamp(static_cast<int>(enough_ms / std::max(first, 1e-3f)), 1, most_runs);
    const GraphExec exec = capture(stream, runs, work);
    float fastest = std::numeric_limits<float>::max();
    for (int i = 0; i < replays; ++i)
        fastest = std::min(fastest, timer.milliseconds([&] {
            check_cuda(cudaGraphLaunch(exec.get(), stream), "cudaGraphLaunch");
        }));
    return fastest / static_cast<float>(runs);
}

void copy_rows(cudaStream_t stream, void* to, std::int64_t to_stride, const void* from,
               std::int64_t from_stride, const Accumulated& rows) {
    check_cuda(
        cudaMemcpy2DAsync(to, static_cast<std::size_t>(to_stride), from,
                          static_cast<std::size_t>(from_stride), static_cast<std::size_t>(rows.row_bytes),
                          static_cast<std::size_t>(rows.rows), cudaMemcpyDeviceToDevice, stream),
        "cudaMemcpy2DAsync");
}

}  // namespace

bool can_time(const Context& context) {
    auto* const stream = static_cast<cudaStream_t>(context.stream.handle);
    if (stream == nullptr) return false;  // the default stream cannot be captured
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
    return status == cudaStreamCaptureStatusNone;
}

std::size_t fastest(const Context& context, std::size_t count, const std::function<void(std::size_t)>& run,
                    std::span<const Accumulated> results) {
    auto* const stream = static_cast<cudaStream_t>(context.stream.handle);
    std::vector<Scratch<std::byte>> saved;
    for (const Accumulated& r : results) {
        saved.emplace_back(context, r.rows * r.row_bytes);
        copy_rows(stream, saved.back(), r.row_bytes, r.data, r.stride_bytes, r);
    }
    Timer timer(stream);
    std::size_t best = count;
    float best_ms = std::numeric_limits<float>::max();
    std::exception_ptr failure;
    for (std::size_t i = 0; i < count; ++i) try {
            const float ms = time_of(stream, timer, best_ms, [&] { run(i); });
            if (ms < best_ms) best = i, best_ms = ms;
        } catch (const std::exception&) {
            failure = std::current_exception();
            cudaGetLastError();  // or the next launch, whose check reads it, would be blamed
        }
    for (std::size_t i = 0; i < results.size(); ++i) {
        const Accumulated& r = results[i];
        copy_rows(stream, r.data, r.stride_bytes, saved[i], r.row_bytes, r);
    }
    if (best == count) std::rethrow_exception(failure);
    return best;
}

}  // namespace ito::kernels
