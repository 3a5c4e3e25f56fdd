// One context per device: everything that runs on the device runs on its one stream.

#include <map>
#include <memory>
#include <mutex>

#include "core/allocator.h"
#include "core/cuda/counters.h"
#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"
#include "core/cuda/library_handles.h"
#include "core/cuda/staging.h"
#include "core/scratch.h"
#include "kernels/common/choices.h"
#include "kernels/common/plan_cache.h"

namespace ito::cuda {
namespace {

class DeviceContext {
  public:
    explicit DeviceContext(int index)
        : stream_(make_stream()),
          staging_(stream_.get()),
          scratch_(Device::cuda(index)),
          libraries_(stream_.get()) {
        context_.stream.handle = stream_.get();
        context_.plans = &plans_;
        context_.scratch = &scratch_;
        context_.libraries = &libraries_;
        context_.choices = &choices_;
    }
    DeviceContext(const DeviceContext&) = delete;
    DeviceContext& operator=(const DeviceContext&) = delete;

    const kernels::Context& context() const { return context_; }
    void set_math_mode(kernels::MathMode mode) { context_.math = mode; }
    void set_bfloat16_weight_gradients(bool on) { context_.bfloat16_weight_gradients = on; }
    AllocatorScratch& scratch() { return scratch_; }
    kernels::VariantChoices& choices() { return choices_; }
    cudaStream_t stream() const { return stream_.get(); }
    Staging& staging() { return staging_; }

  private:
    Stream stream_;
    Staging staging_;
    AllocatorScratch scratch_;
    LibraryHandles libraries_;
    kernels::PlanCache plans_;
    kernels::VariantChoices choices_;
    kernels::Context context_;
};

struct Contexts {
    std::mutex mutex;
    bool autotune = true;
    std::map<int, std::unique_ptr<DeviceContext>> all;
};

/// Never destroyed. What static objects' destructors ask of CUDA is undefined: the runtime, the driver and the parts that
/// cuDNN has loaded late may have ended before them. The driver takes everything back when the process ends.
Contexts& contexts() {
    static Contexts& all = *new Contexts;
    return all;
}

DeviceContext& device_context(int index) {
    Contexts& known = contexts();
    const std::lock_guard lock(known.mutex);
    auto found = known.all.find(index);
    if (found == known.all.end()) require_device(index);
    use_device(index);
    if (found == known.all.end()) {
        found = known.all.emplace(index, std::make_unique<DeviceContext>(index)).first;
        found->second->choices().set_autotune(known.autotune);
    }
    return *found->second;
}

}  // namespace

const kernels::Context& context(int index) {
    return device_context(index).context();
}

void set_math_mode(int index, kernels::MathMode mode) {
    device_context(index).set_math_mode(mode);
}

void set_bfloat16_weight_gradients(int index, bool on) {
    device_context(index).set_bfloat16_weight_gradients(on);
}

void set_autotune(bool on) {
    Contexts& known = contexts();
    const std::lock_guard lock(known.mutex);
    known.autotune = on;
    for (const auto& [index, context] : known.all) context->choices().set_autotune(on);
}

kernels::VariantChoices& choices(int index) {
    return device_context(index).choices();
}

std::string why_no_cudnn(int index) {
    const kernels::Context& here = context(index);
    if (here.cudnn() != nullptr) return "";
    return "cuDNN is not used, convolutions run by hand-written kernels: " + here.libraries->why_not_cudnn();
}

std::size_t take_scratch_peak(int index) {
    return device_context(index).scratch().take_peak();
}

void copy_to_device(int index, void* to, const void* from, std::size_t bytes) {
    device_context(index).staging().upload(to, from, bytes);
}

void copy_to_host(int index, void* to, const void* from, std::size_t bytes) {
    device_context(index).staging().download(to, from, bytes);
}

void copy_between(int to_index, void* to, int from_index, const void* from, std::size_t bytes) {
    if (bytes == 0) return;
    DeviceContext& source = device_context(from_index);
    if (to_index == from_index) {
        check_bytes(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, source.stream()),
                    "cudaMemcpyAsync on the device", bytes);
        return;
    }
    // The source's work comes first, and the destination's later work after the copy.
    const Event ready = make_event();
    check_cuda(cudaEventRecord(ready.get(), source.stream()), "cudaEventRecord");
    DeviceContext& target = device_context(to_index);
    check_cuda(cudaStreamWaitEvent(target.stream(), ready.get(), 0), "cudaStreamWaitEvent");
    check_bytes(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, target.stream()),
                "cudaMemcpyAsync between devices", bytes);
    const Event done = make_event();
    check_cuda(cudaEventRecord(done.get(), target.stream()), "cudaEventRecord");
    // The source may not change or reuse the memory before it has been read.
    check_cuda(cudaStreamWaitEvent(source.stream(), done.get(), 0), "cudaStreamWaitEvent");
}

void synchronize(int index) {
    check_cuda(cudaStreamSynchronize(device_context(index).stream()), "cudaStreamSynchronize");
    ++counters().synchronizations;
}

void release_all() {
    auto& all = contexts().all;
    while (!all.empty()) {
        const int index = all.begin()->first;
        synchronize(index);
        all.erase(index);
    }
    for (int index = 0; index < device_count(); ++index) Allocator::forget(Device::cuda(index));
}

Counts counts() {
    return counters();
}

}  // namespace ito::cuda
