#include "tools/vgpu/report.h"

#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

#include "tools/vgpu/runtime/state.h"

namespace vgpu {
namespace {

struct Reports {
    std::mutex mutex;
    std::vector<Report> list;
    std::size_t count = 0;
    std::function<void(const Report&)> handler;
    std::set<std::tuple<Fault, std::string, std::string, int>> printed;
};

// Never destroyed: reports may come while the process exits.
Reports& all() {
    static auto& instance = *new Reports;
    return instance;
}

constexpr std::size_t kept_reports = 1000;

// Faults that a kernel commits, which end it.
bool ends_launch(Fault kind) {
    switch (kind) {
        case Fault::out_of_bounds:
        case Fault::misaligned:
        case Fault::uninitialised:
        case Fault::race:
        case Fault::deadlock:
        case Fault::lane_exit:
        case Fault::async_not_waited:
        case Fault::unknown:
            return true;
        default:
            return false;
    }
}

cudaError_t error_of(Fault kind) {
    switch (kind) {
        case Fault::out_of_bounds:
            return cudaErrorIllegalAddress;
        case Fault::misaligned:
            return cudaErrorMisalignedAddress;
        case Fault::deadlock:
            return cudaErrorLaunchTimeout;
        default:
            return cudaErrorLaunchFailure;
    }
}

}  // namespace

const char* fault_name(Fault kind) {
    constexpr const char* names[] = {"out of bounds",
                                     "misaligned access",
                                     "read of uninitialised memory",
                                     "race in shared memory",
                                     "deadlock",
                                     "lane exited before a warp operation",
                                     "asynchronous copy not waited for",
                                     "launch beyond the device's limits",
                                     "host access",
                                     "double free",
                                     "leak",
                                     "missing event between streams",
                                     "bad handle",
                                     "fault"};
    return names[static_cast<int>(kind)];
}

std::string to_string(const Report& entry) {
    std::string message = std::string("vgpu: ") + fault_name(entry.kind);
    if (!entry.kernel.empty()) {
        message += " in " + detail::readable(entry.kernel);
    }
    if (!entry.file.empty()) {
        message += " (" + entry.file + ":" + std::to_string(entry.line) + ")";
    }
    if (ends_launch(entry.kind) && (!entry.file.empty() || entry.line != 0)) {
        char place[160];
        std::snprintf(place, sizeof(place), ", block (%u, %u, %u), thread (%u, %u, %u)", entry.block[0],
                      entry.block[1], entry.block[2], entry.thread[0], entry.thread[1], entry.thread[2]);
        message += place;
    }
    message += ": " + entry.text;
    if (entry.address != 0) {
        char address[64];
        std::snprintf(address, sizeof(address), " [address 0x%llx, %zu bytes]",
                      static_cast<unsigned long long>(entry.address), entry.size);
        message += address;
    }
    return message;
}

void report(Report entry) {
    const std::uint32_t running = current_operation.load();
    if (entry.kernel.empty() && running != 0) {
        entry.kernel = detail::operation_name(running);
    }
    std::function<void(const Report&)> handler;
    bool print = false;
    {
        std::lock_guard<std::mutex> lock(all().mutex);
        ++all().count;
        if (all().list.size() < kept_reports) {
            all().list.push_back(entry);
        }
        handler = all().handler;
        print = !handler && all().printed.emplace(entry.kind, entry.kernel, entry.file, entry.line).second;
    }
    if (handler) {
        handler(entry);
    } else if (print) {
        const std::string message = to_string(entry);
        std::fprintf(stderr, "%s\n", message.c_str());
    }
    if (running != 0 && ends_launch(entry.kind)) {
        detail::set_sticky(error_of(entry.kind));
    }
}

void set_report_handler(std::function<void(const Report&)> handler) {
    std::lock_guard<std::mutex> lock(all().mutex);
    all().handler = std::move(handler);
}

std::vector<Report> reports() {
    std::lock_guard<std::mutex> lock(all().mutex);
    return all().list;
}

std::size_t report_count() {
    std::lock_guard<std::mutex> lock(all().mutex);
    return all().count;
}

void clear_reports() {
    std::lock_guard<std::mutex> lock(all().mutex);
    all().list.clear();
    all().printed.clear();
    all().count = 0;
}

namespace detail {

std::string readable(const std::string& mangled) {
    int status = 0;
    char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
    const std::string name = status == 0 ? text : mangled;
    std::free(text);
    return name;
}

}  // namespace detail
}  // namespace vgpu
