// A build without CUDA: there is no device, and functions that need one throw.

#include "core/cuda/cuda.h"
#include "core/error.h"

namespace ito::cuda {
namespace {

[[noreturn]] void refuse(int index) {
    fail("cuda:{}: this build of ito has no CUDA; configure with -DITO_CUDA=ON, or use `device` cpu", index);
}

}  // namespace

int device_count() {
    return 0;
}
std::string why_no_device() {
    return "this build of ito has no CUDA";
}
DeviceInfo device_info(int index) {
    refuse(index);
}
void require_device(int index) {
    refuse(index);
}
void use_device(int index) {
    refuse(index);
}
std::unique_ptr<MemorySource> make_memory_source(int index, bool) {
    refuse(index);
}
CUstream_st* stream(int index) {
    refuse(index);
}
kernels::LibraryHandles& libraries(int index) {
    refuse(index);
}
void copy_to_device(int index, void*, const void*, std::size_t) {
    refuse(index);
}
void copy_to_host(int index, void*, const void*, std::size_t) {
    refuse(index);
}
void copy_between(int to_index, void*, int, const void*, std::size_t) {
    refuse(to_index);
}
void synchronize(int index) {
    refuse(index);
}
std::shared_ptr<void> pinned_memory(int index, std::size_t) {
    refuse(index);
}
void copy_to_pinned(int index, void*, const void*, std::size_t) {
    refuse(index);
}
std::unique_ptr<Mark> make_mark(int index) {
    refuse(index);
}
std::unique_ptr<Prefetch> make_prefetch(int index, std::size_t, std::shared_ptr<Allocator>) {
    refuse(index);
}
std::unique_ptr<RecordedGraph> record(int index, const std::function<void()>&) {
    refuse(index);
}
void release_queues() {}
Counts counts() {
    return {};
}

}  // namespace ito::cuda
