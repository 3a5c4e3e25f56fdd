#pragma once
// Device work that is the same every time it runs: a training step, a step of a sampling chain. On CUDA it is recorded
// into a graph and replayed, which costs the host microseconds instead of one launch for each of hundreds of kernels.
//
// What may differ from run to run lies behind pointers (DeviceValue) and in buffers that outlive the work; what the work
// makes and frees itself lies in a pool of its own, so that the recorded addresses stay valid. The bits are those of the
// work run directly.

#include <functional>
#include <memory>
#include <optional>

#include "core/allocator.h"
#include "core/cuda/cuda.h"

namespace ito {

class RecordedWork {
  public:
    /// Runs before the recording: the first fill the allocator, the plan caches and the converted weights.
    static constexpr int warm_up_runs = 2;

    /// Without `record`, and on the CPU, every run is direct. `warm_up` may be 0 for what other work of the same shapes has
    /// warmed.
    RecordedWork(Device device, bool record, int warm_up = warm_up_runs);
    ~RecordedWork();

    /// Runs `work`: directly, by recording and launching it, or by launching what was recorded. What `work` does on the host
    /// (counting steps, say) happens in the first runs only: keep it outside. Until the graph is gone `work` must be the
    /// same, and its tensors must stay where they are.
    void run(const std::function<void()>& work);

    /// Kernels, copies and fills of the graph; 0 before there is one.
    std::size_t nodes() const { return graph_ ? graph_->nodes() : 0; }

  private:
    Device device_;
    int warm_up_;                          // runs that are left
    std::optional<Allocator::Pool> pool_;  // none where nothing is recorded
    std::unique_ptr<cuda::RecordedGraph> graph_;
};

}  // namespace ito
