#include <cuda_runtime_api.h>

#include "apps/kernel_bench/machine.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"
#include "kernels/cuda/cuda_error.h"

// The virtual GPU's counters (tools/vgpu/control.h); null when linked with the CUDA runtime.
extern "C" {
[[gnu::weak]] void vgpu_count(int on);
[[gnu::weak]] unsigned long long vgpu_counter(const char* name);
}

namespace ito::apps::kernel_bench {
namespace {

using kernels::check_cuda;
using kernels::Variant;

/// With fewer launches in a graph the clock's resolution would show.
constexpr std::size_t least_nodes = 20;
constexpr int warm_up_graphs = 2;

cudaDeviceProp properties_of(int index) {
    cudaDeviceProp properties;
    check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    return properties;
}

class CudaMachine final : public Machine {
  public:
    CudaMachine(int index, const cudaDeviceProp& properties)
        : Machine(Device::cuda(index), properties.name, static_cast<std::size_t>(properties.l2CacheSize)),
          stream_(static_cast<cudaStream_t>(context_of(device()).stream.handle)) {}

    bool counts() const override { return vgpu_count != nullptr && vgpu_counter != nullptr; }

    std::string try_once(const Prepared& prepared, Variant variant) const override {
        try {
            prepared.launch(0, variant);
            cuda::synchronize(device().index);
        } catch (const kernels::CudaError&) {
            throw;
        } catch (const Error& error) {
            return error.what();
        }
        return {};
    }
    /// Device time from launch to launch in a CUDA graph that goes through all of the arguments.
    Timing time(const Prepared& prepared, Variant variant, std::int64_t repeats) const override {
        const std::size_t rounds = (least_nodes + prepared.size() - 1) / prepared.size();
        return time_graph([&](std::size_t i) { prepared.launch(i, variant); }, rounds * prepared.size(),
                          repeats);
    }
    Work count(const Prepared& prepared, Variant variant) const override;
    double copy_bytes_per_second(std::size_t bytes, std::int64_t repeats) const override;

  private:
    Timing time_graph(const std::function<void(std::size_t)>& enqueue, std::size_t nodes,
                      std::int64_t repeats) const;

    cudaStream_t stream_;
};

Timing CudaMachine::time_graph(const std::function<void(std::size_t)>& enqueue, std::size_t nodes,
                               std::int64_t repeats) const {
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    for (std::size_t i = 0; i < nodes; ++i) enqueue(i);
    check_cuda(cudaStreamEndCapture(stream_, &captured), "cudaStreamEndCapture");
    const cuda::Graph graph(captured);
    cudaGraphExec_t instantiated = nullptr;
    check_cuda(cudaGraphInstantiate(&instantiated, captured, 0), "cudaGraphInstantiate");
    const cuda::GraphExec executable(instantiated);

    const cuda::Event begin = cuda::make_event(true), end = cuda::make_event(true);
    std::vector<double> microseconds;
    for (std::int64_t i = 0; i < warm_up_graphs + repeats; ++i) {
        check_cuda(cudaEventRecord(begin.get(), stream_), "cudaEventRecord");
        check_cuda(cudaGraphLaunch(instantiated, stream_), "cudaGraphLaunch");
        check_cuda(cudaEventRecord(end.get(), stream_), "cudaEventRecord");
        check_cuda(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
        float milliseconds = 0;
        check_cuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
        if (i >= warm_up_graphs) microseconds.push_back(1000.0 * milliseconds / static_cast<double>(nodes));
    }
    return timing_of(std::move(microseconds));
}

Work CudaMachine::count(const Prepared& prepared, Variant variant) const {
    vgpu_count(1);
    try_once(prepared, variant);
    vgpu_count(0);
    const auto counter = [](const char* name) { return static_cast<double>(vgpu_counter(name)); };
    return {.unique_bytes = counter("unique_bytes_read") + counter("unique_bytes_written"),
            .load_requests = counter("global_load_requests"),
            .load_sectors = counter("global_load_sectors"),
            .store_requests = counter("global_store_requests"),
            .store_sectors = counter("global_store_sectors"),
            .bank_conflicts = counter("bank_conflicts"),
            .instructions = counter("instructions"),
            .kernels = counter("launches")};
}

double CudaMachine::copy_bytes_per_second(std::size_t bytes, std::int64_t repeats) const {
    const Shape shape{static_cast<std::int64_t>(bytes / sizeof(float))};
    const Tensor from = Tensor::zeros(shape, DType::float32, device()), to = Tensor::like(from);
    const auto copy = [&](std::size_t) {
        check_cuda(cudaMemcpyAsync(to.raw(), from.raw(), bytes, cudaMemcpyDeviceToDevice, stream_),
                   "cudaMemcpyAsync");
    };
    return 2e6 * static_cast<double>(bytes) / time_graph(copy, 4, repeats).median_us;
}

}  // namespace

std::unique_ptr<Machine> make_cuda_machine(int index) {
    return std::make_unique<CudaMachine>(index, properties_of(index));
}

}  // namespace ito::apps::kernel_bench
