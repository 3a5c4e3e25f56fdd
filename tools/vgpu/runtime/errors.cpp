// Errors: the last one of each thread, the sticky one of the device, planned failures, names; and what
// happens once at the first call.
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "tools/vgpu/runtime/state.h"

namespace vgpu {
namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local bool inside_host_function = false;
std::atomic<bool> running{false};

struct Name {
    cudaError_t error;
    const char* name;
    const char* text;
};
#define VGPU_ERROR(error, text) \
    { error, #error, text }
constexpr Name names[] = {
    VGPU_ERROR(cudaSuccess, "no error"),
    VGPU_ERROR(cudaErrorInvalidValue, "invalid argument"),
    VGPU_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    VGPU_ERROR(cudaErrorInitializationError, "initialization error"),
    VGPU_ERROR(cudaErrorCudartUnloading, "driver shutting down"),
    VGPU_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    VGPU_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    VGPU_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    VGPU_ERROR(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    VGPU_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    VGPU_ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    VGPU_ERROR(cudaErrorMissingConfiguration, "__global__ function call is not configured"),
    VGPU_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    VGPU_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    VGPU_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    VGPU_ERROR(cudaErrorInvalidKernelImage, "device kernel image is invalid"),
    VGPU_ERROR(cudaErrorDeviceUninitialized, "invalid device context"),
    VGPU_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    VGPU_ERROR(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
    VGPU_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    VGPU_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    VGPU_ERROR(cudaErrorSymbolNotFound, "named symbol not found"),
    VGPU_ERROR(cudaErrorNotReady, "device not ready"),
    VGPU_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    VGPU_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    VGPU_ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    VGPU_ERROR(cudaErrorAssert, "device-side assert triggered"),
    VGPU_ERROR(cudaErrorHostMemoryAlreadyRegistered,
               "part or all of the requested memory range is already mapped"),
    VGPU_ERROR(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
    VGPU_ERROR(cudaErrorHardwareStackError, "hardware stack error"),
    VGPU_ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    VGPU_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    VGPU_ERROR(cudaErrorInvalidAddressSpace, "operation not supported on global/shared address space"),
    VGPU_ERROR(cudaErrorInvalidPc, "invalid program counter"),
    VGPU_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    VGPU_ERROR(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    VGPU_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    VGPU_ERROR(cudaErrorNotSupported, "operation not supported"),
    VGPU_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    VGPU_ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    VGPU_ERROR(cudaErrorStreamCaptureMerge,
               "operation would result in a merge of separate capture sequences"),
    VGPU_ERROR(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    VGPU_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    VGPU_ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    VGPU_ERROR(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing blocking stream"),
    VGPU_ERROR(cudaErrorCapturedEvent,
               "operation not permitted on an event last recorded in a capturing stream"),
    VGPU_ERROR(cudaErrorStreamCaptureWrongThread,
               "attempt to terminate a thread-local capture sequence from another thread"),
    VGPU_ERROR(cudaErrorTimeout, "wait operation timed out"),
    VGPU_ERROR(cudaErrorGraphExecUpdateFailure,
               "the graph update was not performed because it included changes which violated constraints "
               "specific to instantiated graph update"),
    VGPU_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef VGPU_ERROR

const Name* find_name(cudaError_t error) {
    for (const Name& entry : names) {
        if (entry.error == error) {
            return &entry;
        }
    }
    return nullptr;
}

// The errors after which the device answers nothing else until it is reset.
bool is_sticky(cudaError_t error) {
    switch (error) {
        case cudaErrorECCUncorrectable:
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchTimeout:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorLaunchFailure:
            return true;
        default:
            return false;
    }
}

Schedule chosen_schedule;

void read_environment() {
    chosen_schedule = {};
    set_profile(std::getenv("VGPU_PROFILE") != nullptr ? std::getenv("VGPU_PROFILE") : "h100");
    if (const char* text = std::getenv("VGPU_SCHEDULE")) {
        const std::string order = text;
        if (order == "reverse") {
            chosen_schedule.order = Order::reverse;
        } else if (order.rfind("random", 0) == 0) {
            const auto colon = order.find(':');
            chosen_schedule = {Order::random,
                               colon == std::string::npos ? 0 : std::stoull(order.substr(colon + 1))};
        } else if (order != "forward") {
            throw std::invalid_argument("VGPU_SCHEDULE is \"" + order +
                                        "\", not forward, reverse or random:SEED");
        }
    }
    detail::state().random.seed(chosen_schedule.seed);
    if (const char* text = std::getenv("VGPU_FAIL")) {
        std::stringstream list(text);
        for (std::string item; std::getline(list, item, ',');) {
            std::stringstream fields(item);
            std::string call, nth, error;
            if (!std::getline(fields, call, ':') || !std::getline(fields, nth, ':') ||
                !std::getline(fields, error)) {
                throw std::invalid_argument("VGPU_FAIL has \"" + item + "\", expected call:nth:error");
            }
            fail_next(call, static_cast<unsigned>(std::stoul(nth)), std::stoi(error));
        }
    }
}

}  // namespace

void set_schedule(Schedule schedule) {
    detail::start_once();
    std::lock_guard<std::recursive_mutex> lock(detail::state().mutex);
    chosen_schedule = schedule;
    detail::state().random.seed(schedule.seed);
}

Schedule schedule() {
    detail::start_once();
    return chosen_schedule;
}

void fail_next(const std::string& call, unsigned nth, int error) {
    if (nth == 0) {
        throw std::invalid_argument("fail_next counts calls from 1");
    }
    std::lock_guard<std::recursive_mutex> lock(detail::state().mutex);
    detail::state().planned.push_back({call, nth, static_cast<cudaError_t>(error)});
}

cudaError_t planned_failure(const char* call) {
    std::lock_guard<std::recursive_mutex> lock(detail::state().mutex);
    auto& planned = detail::state().planned;
    cudaError_t result = cudaSuccess;
    for (auto entry = planned.begin(); entry != planned.end();) {
        if (entry->call == call && --entry->nth == 0) {
            result = entry->error;
            entry = planned.erase(entry);
        } else {
            ++entry;
        }
    }
    if (is_sticky(result)) {
        detail::set_sticky(result);
    }
    return result;
}

void reset() {
    detail::start_once();
    std::lock_guard<std::recursive_mutex> lock(detail::state().mutex);
    detail::destroy_everything();
    detail::state().planned.clear();
    set_report_handler({});
    clear_reports();
    read_environment();
}

namespace detail {

void start_once() {
    static const bool once = [] {
        running = true;
        read_environment();
        catch_host_accesses();
        attach_nvtx();
        return true;
    }();
    (void)once;
}

bool started() {
    return running;
}

void destroy_everything() {
    State& s = state();
    std::lock_guard<std::recursive_mutex> lock(s.mutex);
    wait_for_all();
    abandon_captures();
    s.streams.clear();
    s.events.clear();
    s.graphs.clear();
    s.execs.clear();
    s.cublaslt.clear();
    s.cudnn.clear();
    s.lt_descriptors.clear();
    s.dnn_descriptors.clear();
    s.orphans.clear();
    s.per_thread.clear();
    s.legacy = nullptr;
    // Nothing is queued any more: clocks may start anew.
    s.lane_sequence.clear();
    s.free_lanes.clear();
    s.host.clear();
    forget_operations();
    forget_modules();
    forget_memory();
    s.sticky = cudaSuccess;
    last_error = cudaSuccess;
}

void set_sticky(cudaError_t error) {
    cudaError_t none = cudaSuccess;
    state().sticky.compare_exchange_strong(none, error);
}

cudaError_t record_error(cudaError_t error) {
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

bool in_host_function() {
    return inside_host_function;
}
void set_in_host_function(bool inside) {
    inside_host_function = inside;
}

void report_api(Fault kind, const char* call, std::string text, std::uint64_t address, std::size_t size) {
    Report entry;
    entry.kind = kind;
    entry.kernel = call;
    entry.text = std::move(text);
    entry.address = address;
    entry.size = size;
    report(std::move(entry));
}

}  // namespace detail
}  // namespace vgpu

extern "C" {

cudaError_t cudaGetLastError() {
    const cudaError_t sticky = vgpu::detail::state().sticky;
    const cudaError_t error = sticky != cudaSuccess ? sticky : vgpu::last_error;
    vgpu::last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() {
    const cudaError_t sticky = vgpu::detail::state().sticky;
    return sticky != cudaSuccess ? sticky : vgpu::last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
    const auto* entry = vgpu::find_name(error);
    return entry != nullptr ? entry->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
    const auto* entry = vgpu::find_name(error);
    return entry != nullptr ? entry->text : "unrecognized error code";
}

}  // extern "C"
