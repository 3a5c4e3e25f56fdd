#include <fmt/format.h>

#include <chrono>
#include <map>
#include <thread>

#include "apps/kernel_bench/machine.h"
#include "core/io/system.h"
#include "kernels/elementwise/elementwise.h"

namespace ito::apps::kernel_bench {
namespace {

/// Reading the clock and waking a thread take a thousandth of this.
constexpr double least_us = 5000;

/// Of all processors that the system shows, which it lists with those that share a cache; sysconf() may also count others'. Where it
/// shows none: 32 MiB.
std::size_t third_level_bytes() {
    std::map<std::string, std::size_t> caches;
    for (unsigned cpu = 0; cpu < std::thread::hardware_concurrency(); ++cpu) {
        const std::string cache = fmt::format("/sys/devices/system/cpu/cpu{}/cache/index3/", cpu);
        const std::string shared = system::first_line(cache + "shared_cpu_list");
        if (!shared.empty())
            caches[shared] = system::number(system::first_line(cache + "size"), 0) << 10;  // "32768K"
    }
    std::size_t bytes = 0;
    for (const auto& [shared, size] : caches) bytes += size;
    return bytes > 0 ? bytes : std::size_t{32} << 20;
}

class CpuMachine final : public Machine {
  public:
    CpuMachine()
        : Machine(Device::cpu(), system::entry("/proc/cpuinfo", "model name"), third_level_bytes()) {}

    std::string try_once(const Prepared& prepared, kernels::Variant variant) const override {
        prepared.launch(0, variant);
        return {};
    }

    /// Each measurement has so many launches that it takes at least `least_us`.
    Timing time(const Prepared& prepared, kernels::Variant variant, std::int64_t repeats) const override {
        std::size_t next = 0;
        const auto measure = [&](std::size_t launches) {
            const auto begin = std::chrono::steady_clock::now();
            for (std::size_t i = 0; i < launches; ++i) prepared.launch(next++, variant);
            return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
                .count();
        };
        std::size_t launches = 1;
        while (measure(launches) < least_us) launches *= 2;
        std::vector<double> microseconds;
        for (std::int64_t i = 0; i < repeats; ++i)
            microseconds.push_back(measure(launches) / static_cast<double>(launches));
        return timing_of(std::move(microseconds));
    }

    double copy_bytes_per_second(std::size_t bytes, std::int64_t repeats) const override {
        Case copy;
        copy.prepare = [=](Buffers& memory) -> Launch {
            const auto count = static_cast<std::int64_t>(bytes / sizeof(float));
            const float* x = memory.normal<float>(count);
            return ITO_BENCH(memory, copy, kernels::copy_of(x, count, memory.output<float>(count)));
        };
        return 2e6 * static_cast<double>(bytes) /
               time(prepare(copy, 0), kernels::Variant::best, repeats).median_us;
    }
};

}  // namespace

std::unique_ptr<Machine> make_cpu_machine() {
    return std::make_unique<CpuMachine>();
}

}  // namespace ito::apps::kernel_bench
