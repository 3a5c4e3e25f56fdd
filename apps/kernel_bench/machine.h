#pragma once
// What `ito bench kernels` measures on: the CPU (machine_cpu.cpp) or a GPU (machine_cuda.cpp). Linked with the virtual GPU
// (tools/vgpu), the latter counts instead of measuring times.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/kernel_bench/cases.h"
#include "core/tensor.h"
#include "kernels/common/plan_cache.h"

namespace ito::apps::kernel_bench {

struct Timing {
    double best_us = 0, median_us = 0;  ///< of one launch
};
Timing timing_of(std::vector<double> microseconds);

/// What the virtual GPU counts in one launch; a launch of several kernels counts as their sum.
struct Work {
    double unique_bytes = 0;  ///< of global memory, each once per kernel, read and written
    double load_requests = 0, load_sectors = 0, store_requests = 0, store_sectors = 0;
    double bank_conflicts = 0;  ///< passes beyond the first
    double instructions = 0;    ///< of threads
    double kernels = 0;
};

/// Several sets of a case's arguments: after a launch with each of them the cache holds nothing of the first set, unless they are
/// so small that thousands fit.
class Prepared {
  public:
    Prepared(const Case& measured, const Device& device, std::size_t cache_bytes);

    std::size_t size() const { return launches_.size(); }
    void launch(std::size_t i, kernels::Variant variant) const { launches_[i % size()](context_, variant); }

  private:
    Tensor memory_;
    std::unique_ptr<kernels::PlanCache> plans_;  ///< the case's own
    kernels::Context context_;
    std::vector<Launch> launches_;
};

class Machine {
  public:
    virtual ~Machine() = default;

    const Device& device() const { return device_; }
    const std::string& name() const { return name_; }
    /// L2 of a GPU, all third-level caches of a CPU.
    std::size_t cache_bytes() const { return cache_bytes_; }

    /// Argument sets of twice `cache_bytes`; 0: one set.
    Prepared prepare(const Case& measured, std::size_t cache_bytes) const {
        return Prepared(measured, device_, cache_bytes);
    }
    /// Waits for a first launch. Not every variant takes every shape: empty, or the launcher's reason.
    virtual std::string try_once(const Prepared& prepared, kernels::Variant variant) const = 0;
    /// True on the virtual GPU, which has count(); the others have time().
    virtual bool counts() const { return false; }
    virtual Timing time(const Prepared& prepared, kernels::Variant variant, std::int64_t repeats) const = 0;
    virtual Work count(const Prepared&, kernels::Variant) const { return {}; }
    /// Bytes read and written per second by a copy of `bytes` within the device's memory.
    virtual double copy_bytes_per_second(std::size_t bytes, std::int64_t repeats) const = 0;

  protected:
    Machine(const Device& device, std::string name, std::size_t cache_bytes)
        : device_(device), name_(std::move(name)), cache_bytes_(cache_bytes) {}

  private:
    Device device_;
    std::string name_;
    std::size_t cache_bytes_;
};

std::unique_ptr<Machine> make_cpu_machine();
std::unique_ptr<Machine> make_cuda_machine(int index);  ///< in builds with CUDA
std::unique_ptr<Machine> make_machine(const Device& device);

}  // namespace ito::apps::kernel_bench
