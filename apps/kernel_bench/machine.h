#pragma once
// The GPU that kernels are measured on: times by CUDA events, or, linked with the virtual GPU (tools/vgpu), its counters.

#include <cuda_runtime_api.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/kernel_bench/cases.h"
#include "core/cuda/handles.h"
#include "kernels/common/plan_cache.h"

namespace ito::apps::kernel_bench {

struct Timing {
    double best_us = 0, median_us = 0;  ///< of one launch
};

/// What the virtual GPU counts in one launch; a launch of several kernels counts as their sum.
struct Work {
    double unique_bytes = 0;  ///< of global memory, each once per kernel, read and written
    double load_requests = 0, load_sectors = 0, store_requests = 0, store_sectors = 0;
    double bank_conflicts = 0;  ///< passes beyond the least
    double instructions = 0;    ///< of threads
    double kernels = 0;
};

struct FreeMemory {
    void operator()(std::byte* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<std::byte, FreeMemory>;

/// A case's arguments so many times that going through them leaves nothing of the first in the L2 cache.
class Prepared {
  public:
    /// `machine`: the context to run in, but for the plans.
    Prepared(const Case& measured, std::size_t cache_bytes, const kernels::Context& machine);

    std::size_t size() const { return launches_.size(); }
    void launch(std::size_t i, kernels::Variant variant) const { launches_[i % size()](context_, variant); }

  private:
    DeviceMemory memory_;
    std::unique_ptr<kernels::PlanCache> plans_;
    kernels::Context context_;
    std::vector<Launch> launches_;
};

class Machine {
  public:
    /// "cuda" or "cuda:N"; throws Error if no such device answers.
    explicit Machine(const std::string& device);

    /// Linked with the virtual GPU: count(), else time().
    bool counts() const;
    const std::string& name() const { return name_; }
    std::size_t l2_bytes() const { return l2_bytes_; }

    /// So many arguments that they fill `cache_bytes` twice; 0: one.
    Prepared prepare(const Case& measured, std::size_t cache_bytes) const;
    /// Device time from launch to launch in a CUDA graph that goes through all of the arguments, after two such graphs.
    Timing time(const Prepared& prepared, kernels::Variant variant, std::int64_t repeats) const;
    Work count(const Prepared& prepared, kernels::Variant variant) const;
    /// Waits for a first launch; throws what the launcher throws.
    void try_once(const Prepared& prepared, kernels::Variant variant) const;
    /// Bytes read and written a second by device-to-device copies of `bytes`.
    double copy_bytes_per_second(std::size_t bytes, std::int64_t repeats) const;

  private:
    Timing time_graph(const std::function<void(std::size_t)>& enqueue, std::size_t nodes,
                      std::int64_t repeats) const;

    cudaStream_t stream() const { return static_cast<cudaStream_t>(context_.stream.handle); }

    kernels::Context context_;
    std::string name_;
    std::size_t l2_bytes_ = 0;
};

}  // namespace ito::apps::kernel_bench
