#include <cuda_runtime_api.h>

#include <algorithm>

#include "tests/support/cuda_machine.h"
#include "tools/vgpu/control.h"
#include "tools/vgpu/memory.h"
#include "tools/vgpu/report.h"

namespace ito::testing {

bool on_virtual_gpu() {
    return true;
}

void for_each_schedule(const std::function<void()>& body) {
    const vgpu::Schedule before = vgpu::schedule();
    for (const auto& [name, schedule] : {std::pair{"forward", vgpu::Schedule{vgpu::Order::forward, 0}},
                                         {"reverse", vgpu::Schedule{vgpu::Order::reverse, 0}},
                                         {"random", vgpu::Schedule{vgpu::Order::random, 20201122}}}) {
        SCOPED_TRACE(name);
        vgpu::set_schedule(schedule);
        body();
        EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    vgpu::set_schedule(before);
}

void for_each_profile(const std::function<void()>& body) {
    const std::string before = vgpu::profile().name;
    for (const char* name : {"a100", "rtx4090", "h100"}) {
        SCOPED_TRACE(name);
        vgpu::set_profile(name);
        body();
        EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    vgpu::set_profile(before);
}

std::vector<vgpu::Counters> counted(const std::function<void()>& body) {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    vgpu::reset_counters();
    vgpu::enable_counters(true);
    body();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    vgpu::enable_counters(false);
    return vgpu::counters();
}

bool fail_next(const std::string& call, unsigned nth, int code) {
    vgpu::fail_next(call, nth, code);
    return true;
}

bool written(const void* data, std::size_t bytes) {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const vgpu::Allocation* allocation = vgpu::find_allocation(data);
    if (allocation == nullptr) return false;
    const auto* first =
        allocation->initialised + (reinterpret_cast<std::uint64_t>(data) - allocation->address);
    return std::all_of(first, first + bytes, [](std::uint8_t flag) { return flag != 0; });
}

bool without_driver(const std::function<void()>& body) {
    const std::string before = vgpu::profile().name;
    vgpu::set_profile("none");
    body();
    vgpu::set_profile(before);
    return true;
}

std::string faults() {
    std::string text;
    for (const vgpu::Report& report : vgpu::reports()) text += to_string(report) + "\n";
    return text;
}

void forget_faults() {
    vgpu::clear_reports();
}

std::string not_given_back() {
    std::string text;
    for (const vgpu::Leak& leak : vgpu::leaks())
        text += std::to_string(leak.count) + " x " + leak.what + "\n";
    return text;
}

}  // namespace ito::testing
