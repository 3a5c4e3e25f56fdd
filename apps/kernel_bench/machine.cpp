#include "apps/kernel_bench/machine.h"

#include <algorithm>
#include <charconv>

#include "core/context.h"
#include "core/error.h"

// The virtual GPU's counters (tools/vgpu/control.h); null when linked with the CUDA runtime.
extern "C" {
[[gnu::weak]] void vgpu_count(int on);
[[gnu::weak]] unsigned long long vgpu_counter(const char* name);
}

namespace ito::apps::kernel_bench {
namespace {

using kernels::check_cuda;
using kernels::Variant;

/// A launch cannot be told from the clock's grain by less, nor does it get more exact by more.
constexpr std::size_t least_nodes = 20, most_nodes = 4096;
constexpr int warm_up_graphs = 2;

DeviceMemory allocate(std::size_t bytes) {
    void* memory = nullptr;
    cuda::check_bytes(cudaMalloc(&memory, std::max<std::size_t>(bytes, 256)), "cudaMalloc", bytes);
    return DeviceMemory(static_cast<std::byte*>(memory));
}

int parse_index(const std::string& device) {
    int index = 0;
    if (device == "cuda") return index;
    const bool prefixed = device.starts_with("cuda:") && device.size() > 5;
    const char* const end = device.data() + device.size();
    if (!prefixed || std::from_chars(device.data() + 5, end, index).ptr != end || index < 0)
        fail("--device {}: expected cuda or cuda:N", device);
    return index;
}

}  // namespace

Prepared::Prepared(const Case& measured, std::size_t cache_bytes, const kernels::Context& machine)
    : plans_(std::make_unique<kernels::PlanCache>()), context_(machine) {
    context_.plans = plans_.get();
    Buffers sizes;
    measured.prepare(sizes);
    std::size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    const std::size_t footprint = std::max<std::size_t>(sizes.used(), 1);
    const std::size_t wanted = cache_bytes == 0 ? 1 : 2 * cache_bytes / footprint + 2;
    const std::size_t count = std::clamp<std::size_t>(free / 2 / footprint, 1, std::min(wanted, most_nodes));
    memory_ = allocate(count * sizes.used());
    for (std::size_t i = 0; i < count; ++i) {
        Buffers memory(memory_.get() + i * sizes.used());
        launches_.push_back(measured.prepare(memory));
    }
    // Copies from pageable memory may return before the device has the data.
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

Machine::Machine(const std::string& device) {
    const int index = parse_index(device);
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0)
        fail("bench kernels: no CUDA device answers ({}); the kernels are only timed on a GPU",
             code == cudaSuccess ? "there are none" : cudaGetErrorString(code));
    require(index < count, "--device {}: there are {} CUDA devices, cuda:0 to cuda:{}", device, count,
            count - 1);
    cudaDeviceProp properties;
    check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    name_ = properties.name;
    l2_bytes_ = static_cast<std::size_t>(properties.l2CacheSize);
    context_ = context_of(Device::cuda(index));
}

bool Machine::counts() const {
    return vgpu_count != nullptr && vgpu_counter != nullptr;
}

Prepared Machine::prepare(const Case& measured, std::size_t cache_bytes) const {
    return Prepared(measured, cache_bytes, context_);
}

void Machine::try_once(const Prepared& prepared, Variant variant) const {
    prepared.launch(0, variant);
    check_cuda(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}

Timing Machine::time(const Prepared& prepared, Variant variant, std::int64_t repeats) const {
    const std::size_t rounds = (least_nodes + prepared.size() - 1) / prepared.size();
    return time_graph([&](std::size_t i) { prepared.launch(i, variant); }, rounds * prepared.size(), repeats);
}

Timing Machine::time_graph(const std::function<void(std::size_t)>& enqueue, std::size_t nodes,
                           std::int64_t repeats) const {
    cudaStream_t const stream = this->stream();
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    for (std::size_t i = 0; i < nodes; ++i) enqueue(i);
    check_cuda(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
    const cuda::Graph graph(captured);
    cudaGraphExec_t instantiated = nullptr;
    check_cuda(cudaGraphInstantiate(&instantiated, captured, 0), "cudaGraphInstantiate");
    const cuda::GraphExec executable(instantiated);

    const cuda::Event begin = cuda::make_event(true), end = cuda::make_event(true);
    std::vector<double> microseconds;
    for (std::int64_t i = 0; i < warm_up_graphs + repeats; ++i) {
        check_cuda(cudaEventRecord(begin.get(), stream), "cudaEventRecord");
        check_cuda(cudaGraphLaunch(instantiated, stream), "cudaGraphLaunch");
        check_cuda(cudaEventRecord(end.get(), stream), "cudaEventRecord");
        check_cuda(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
        float milliseconds = 0;
        check_cuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
        if (i >= warm_up_graphs) microseconds.push_back(1000.0 * milliseconds / static_cast<double>(nodes));
    }
    std::sort(microseconds.begin(), microseconds.end());
    const std::size_t half = microseconds.size() / 2;
    return {.best_us = microseconds.front(),
            .median_us = microseconds.size() % 2 ? microseconds[half]
                                                 : (microseconds[half - 1] + microseconds[half]) / 2};
}

Work Machine::count(const Prepared& prepared, Variant variant) const {
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

double Machine::copy_bytes_per_second(std::size_t bytes, std::int64_t repeats) const {
    const DeviceMemory from = allocate(bytes), to = allocate(bytes);
    check_cuda(cudaMemset(from.get(), 1, bytes), "cudaMemset");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    const auto copy = [&](std::size_t) {
        check_cuda(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream()),
                   "cudaMemcpyAsync");
    };
    return 2e6 * static_cast<double>(bytes) / time_graph(copy, 4, repeats).median_us;
}

}  // namespace ito::apps::kernel_bench
