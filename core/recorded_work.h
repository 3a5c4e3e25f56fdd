#pragma once
// Device work that is the same every time it runs: a training step, a step of a sampling chain. On CUDA it is recorded
// into a graph and replayed: one launch of microseconds instead of hundreds of kernel launches.
//
// What differs from run to run lies behind pointers (DeviceValue), in buffers that outlive the work. Memory that the work
// allocates and frees comes from a pool of its own, so that the recorded addresses stay valid. The results are bit-identical
// to those of the work without a graph.

#include <functional>
#include <memory>
#include <optional>

#include "core/cuda/cuda.h"
#include "core/device.h"
#include "core/memory/allocator.h"

namespace ito {

class RecordedWork {
  public:
    /// Runs before the recording: they fill the allocator, the plan caches and the converted weights.
    static constexpr int warm_up_runs = 2;

    /// Without `record`, and on the CPU, no graph is used. `warm_up` may be 0 after other work of the same shapes has run.
    RecordedWork(Device device, bool record, int warm_up = warm_up_runs);
    ~RecordedWork();

    /// Runs `work` directly, or records and launches it, or launches the recording. What `work` does on the host (counting
    /// steps, say) happens in the first runs only: keep it outside. `work` must be the same at every call, and its tensors
    /// must stay at their addresses.
    void run(const std::function<void()>& work);

    /// Kernels, copies and fills of the graph; 0 before there is one.
    std::size_t nodes() const { return graph_ ? graph_->nodes() : 0; }

  private:
    Device device_;
    int warm_up_;                          // runs until the recording
    std::optional<Allocator::Pool> pool_;  // none if nothing is recorded
    std::unique_ptr<cuda::RecordedGraph> graph_;
};

}  // namespace ito
