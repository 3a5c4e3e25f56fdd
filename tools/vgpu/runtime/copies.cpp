// Copies and memsets.
//
// What the host promises about its buffers, as the CUDA documentation ("API synchronization behavior") states
// it: pageable source memory is staged during the call, pinned memory is read when the copy runs; cudaMemcpy
// returns when the data has arrived, except from pageable memory (staged, perhaps not arrived) and within the
// device.
#include <cstring>
#include <memory>

#include "tools/vgpu/runtime/state.h"
#include "tools/vgpu/runtime/symbols.h"

namespace {

using namespace vgpu::detail;
using vgpu::Allocation;
using vgpu::Fault;
using vgpu::Work;
using vgpu::WorkKind;

enum class Place { pageable, pinned, device };

Place place_of(const void* pointer) {
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    if (vgpu::is_device_address(address)) {
        return Place::device;
    }
    return vgpu::find_allocation(address) != nullptr ? Place::pinned : Place::pageable;
}

struct Rows {
    std::uint64_t address;
    std::size_t pitch;
    Place place;
};

struct Copy {
    Rows to, from;
    std::size_t width, height;
    std::shared_ptr<std::vector<std::byte>> staged;  // pageable source memory, copied at the call
    std::uint64_t checksum = 0;                      // of pinned source memory at the call
    std::uint64_t device_writes = 0, host_functions = 0;
};

std::size_t extent(const Rows& rows, std::size_t width, std::size_t height) {
    return (height - 1) * rows.pitch + width;
}

// The record of a row that was checked at the call, null (after a report) if it has gone since.
const Allocation* row_record(std::uint64_t address, std::size_t width) {
    return checked_range(reinterpret_cast<const void*>(address), width, "") == nullptr
               ? nullptr
               : vgpu::find_allocation(address);
}

std::uint64_t checksum(const Rows& rows, std::size_t width, std::size_t height) {
    std::uint64_t hash = 0xcbf29ce484222325ull;
    for (std::size_t row = 0; row < height; ++row) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(rows.address + row * rows.pitch);
        std::size_t i = 0;
        for (; i + 8 <= width; i += 8) {
            std::uint64_t word;
            std::memcpy(&word, bytes + i, 8);
            hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
            hash ^= hash >> 29;
        }
        for (; i < width; ++i) {
            hash = (hash ^ bytes[i]) * 0x100000001b3ull;
        }
    }
    return hash;
}

void check_pinned_source(const Copy& copy) {
    const Allocation* record = vgpu::find_allocation(copy.from.address);
    if (record == nullptr || record->device_writes != copy.device_writes ||
        state().host_functions != copy.host_functions) {
        return;  // the device or a host function may have written there in the meantime
    }
    if (checksum(copy.from, copy.width, copy.height) != copy.checksum) {
        vgpu::Report entry;
        entry.kind = Fault::host_access;
        entry.address = copy.from.address;
        entry.size = extent(copy.from, copy.width, copy.height);
        entry.text =
            "the host overwrote pinned memory before the copy that it queued had read it; wait for an event "
            "behind the copy first";
        vgpu::report(std::move(entry));
    }
}

// Runs on the device's side, in the stream's turn.
void run_copy(const Copy& copy) {
    if (copy.from.place == Place::pinned && copy.staged == nullptr && copy.checksum != 0) {
        check_pinned_source(copy);
    }
    for (std::size_t row = 0; row < copy.height; ++row) {
        const std::uint64_t from = copy.from.address + row * copy.from.pitch;
        const std::uint64_t to = copy.to.address + row * copy.to.pitch;
        const std::byte* source = reinterpret_cast<const std::byte*>(from);
        const std::uint8_t* known = nullptr;
        if (copy.staged != nullptr) {
            source = copy.staged->data() + row * copy.width;
        } else if (copy.from.place != Place::pageable) {
            const Allocation* record = row_record(from, copy.width);
            if (record == nullptr) {
                return;
            }
            vgpu::note_access(*record, from, copy.width, false);
            source = record->alias + (from - record->address);
            known = record->initialised == nullptr ? nullptr : record->initialised + (from - record->address);
        }
        std::byte* target = reinterpret_cast<std::byte*>(to);
        std::uint8_t* shadow = nullptr;
        if (copy.to.place != Place::pageable) {
            const Allocation* record = row_record(to, copy.width);
            if (record == nullptr) {
                return;
            }
            vgpu::note_access(*record, to, copy.width, true);
            target = record->alias + (to - record->address);
            shadow = record->initialised == nullptr ? nullptr : record->initialised + (to - record->address);
        }
        std::memmove(target, source, copy.width);
        if (shadow != nullptr && known != nullptr) {
            std::memmove(shadow, known, copy.width);
        } else if (shadow != nullptr) {
            std::memset(shadow, 1, copy.width);
        } else if (known != nullptr && std::memchr(known, 0, copy.width) != nullptr) {
            // Bytes that were never written reach the host as a pattern (a NaN in every float type), not as the
            // zeros of fresh memory.
            for (std::size_t i = 0; i < copy.width; ++i) {
                target[i] = known[i] != 0 ? target[i] : std::byte{0xff};
            }
        }
    }
}

bool direction_fits(cudaMemcpyKind kind, Place to, Place from) {
    const bool to_device = to == Place::device;
    const bool from_device = from == Place::device;
    switch (kind) {
        case cudaMemcpyDefault:
            return true;
        case cudaMemcpyHostToHost:
            return !to_device && !from_device;
        case cudaMemcpyHostToDevice:
            return to != Place::pageable && !from_device;
        case cudaMemcpyDeviceToHost:
            return !to_device && from != Place::pageable;
        case cudaMemcpyDeviceToDevice:
            return to != Place::pageable && from != Place::pageable;
    }
    return false;
}

struct Request {
    const char* call;
    void* to;
    std::size_t to_pitch;
    const void* from;
    std::size_t from_pitch, width, height;
    cudaMemcpyKind kind;
    bool async;
};

cudaError_t copy(const Request& r, cudaStream_t handle) {
    const auto stream = find_stream(handle, r.call);
    if (stream == nullptr) {
        return cudaErrorInvalidResourceHandle;
    }
    if (static_cast<unsigned>(r.kind) > cudaMemcpyDefault) {
        return cudaErrorInvalidMemcpyDirection;
    }
    if (r.width == 0 || r.height == 0) {
        return cudaSuccess;
    }
    if (r.to_pitch < r.width || r.from_pitch < r.width) {
        return cudaErrorInvalidPitchValue;
    }
    Copy work_copy{{reinterpret_cast<std::uint64_t>(r.to), r.to_pitch, place_of(r.to)},
                   {reinterpret_cast<std::uint64_t>(r.from), r.from_pitch, place_of(r.from)},
                   r.width,
                   r.height,
                   nullptr};
    const Place to = work_copy.to.place;
    const Place from = work_copy.from.place;
    if (!direction_fits(r.kind, to, from) || r.to == nullptr || r.from == nullptr) {
        report_api(Fault::out_of_bounds, r.call,
                   "the pointers do not fit the direction of the copy: the destination is " +
                       vgpu::describe_address(work_copy.to.address) + ", the source is " +
                       vgpu::describe_address(work_copy.from.address),
                   work_copy.to.address, r.width);
        return cudaErrorInvalidValue;
    }
    if ((to != Place::pageable &&
         checked_range(r.to, extent(work_copy.to, r.width, r.height), r.call) == nullptr) ||
        (from != Place::pageable &&
         checked_range(r.from, extent(work_copy.from, r.width, r.height), r.call) == nullptr)) {
        return cudaErrorInvalidValue;
    }
    const bool capturing = stream->capture != nullptr;
    if (!r.async) {
        if (const cudaError_t error = refuse_while_capturing(); error != cudaSuccess) {
            return error;
        }
    }
    const bool within_device = to == Place::device && from == Place::device;
    const bool stages = from == Place::pageable && to == Place::device && !capturing;
    if (stages) {
        work_copy.staged = std::make_shared<std::vector<std::byte>>(r.width * r.height);
        for (std::size_t row = 0; row < r.height; ++row) {
            std::memcpy(work_copy.staged->data() + row * r.width,
                        reinterpret_cast<const std::byte*>(work_copy.from.address) + row * r.from_pitch,
                        r.width);
        }
    } else if (from == Place::pinned && !capturing) {
        work_copy.checksum = checksum(work_copy.from, r.width, r.height);
        work_copy.device_writes = vgpu::find_allocation(r.from)->device_writes;
        // Work that the stream still has to do may fill the buffer before this copy reads it.
        work_copy.host_functions = state().host_functions;
    }
    if (!r.async && stages) {
        for (const OperationPtr& earlier : before_default_stream()) {
            wait_for(earlier);
        }
    }
    Work work;
    work.name = r.call;
    work.kind = WorkKind::copy;
    work.run = [work_copy = std::move(work_copy)] { run_copy(work_copy); };
    OperationPtr operation;
    if (const cudaError_t error = enqueue(*stream, std::move(work), &operation); error != cudaSuccess) {
        return error;
    }
    // An asynchronous copy to or between pageable host memory is done when the call returns.
    if (r.async ? to == Place::pageable : !within_device && !stages) {
        wait_for(operation);
        return state().sticky;
    }
    return cudaSuccess;
}

cudaError_t set(const char* call, void* pointer, std::size_t pitch, int value, std::size_t width,
                std::size_t height, cudaStream_t handle, bool async) {
    const auto stream = find_stream(handle, call);
    if (stream == nullptr) {
        return cudaErrorInvalidResourceHandle;
    }
    if (width == 0 || height == 0) {
        return cudaSuccess;
    }
    if (pitch < width) {
        return cudaErrorInvalidPitchValue;
    }
    const Rows rows{reinterpret_cast<std::uint64_t>(pointer), pitch, place_of(pointer)};
    if (checked_range(pointer, extent(rows, width, height), call) == nullptr) {
        return cudaErrorInvalidValue;
    }
    Work work;
    work.name = call;
    work.kind = WorkKind::set;
    work.run = [=] {
        for (std::size_t row = 0; row < height; ++row) {
            std::byte* target =
                vgpu::device_write(reinterpret_cast<void*>(rows.address + row * pitch), width);
            if (target == nullptr) {
                return;
            }
            std::memset(target, value, width);
        }
    };
    OperationPtr operation;
    const cudaError_t error = enqueue(*stream, std::move(work), &operation);
    if (error == cudaSuccess && !async && rows.place == Place::pinned) {
        wait_for(operation);
        return state().sticky;
    }
    return error;
}

cudaError_t copy_symbol(Request request, const void* symbol, std::size_t offset, bool to_symbol,
                        cudaStream_t stream) {
    const Symbol found = find_symbol(symbol);
    if (found.address == 0) {
        return cudaErrorInvalidSymbol;
    }
    if (offset > found.size || request.width > found.size - offset) {
        report_api(Fault::out_of_bounds, request.call,
                   "bytes " + std::to_string(offset) + " to " + std::to_string(offset + request.width) +
                       " do not lie in the variable " + found.name + " of " + std::to_string(found.size) +
                       " bytes",
                   found.address + offset, request.width);
        return cudaErrorInvalidValue;
    }
    void* place = reinterpret_cast<void*>(found.address + offset);
    if (to_symbol) {
        request.to = place;
    } else {
        request.from = place;
    }
    request.to_pitch = request.from_pitch = request.width;
    request.height = 1;
    return copy(request, stream);
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
    return api("cudaMemcpy", [&] {
        return copy({"cudaMemcpy", to, size, from, size, size, 1, kind, false}, nullptr);
    });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return api("cudaMemcpyAsync", [&] {
        return copy({"cudaMemcpyAsync", to, size, from, size, size, 1, kind, true}, stream);
    });
}

cudaError_t cudaMemcpy2D(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                         std::size_t width, std::size_t height, cudaMemcpyKind kind) {
    return api("cudaMemcpy2D", [&] {
        return copy({"cudaMemcpy2D", to, to_pitch, from, from_pitch, width, height, kind, false}, nullptr);
    });
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
    return api("cudaMemcpy2DAsync", [&] {
        return copy({"cudaMemcpy2DAsync", to, to_pitch, from, from_pitch, width, height, kind, true}, stream);
    });
}

cudaError_t cudaMemset(void* pointer, int value, std::size_t size) {
    return api("cudaMemset",
               [&] { return set("cudaMemset", pointer, size, value, size, 1, nullptr, false); });
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t size, cudaStream_t stream) {
    return api("cudaMemsetAsync",
               [&] { return set("cudaMemsetAsync", pointer, size, value, size, 1, stream, true); });
}

cudaError_t cudaMemset2D(void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height) {
    return api("cudaMemset2D",
               [&] { return set("cudaMemset2D", pointer, pitch, value, width, height, nullptr, false); });
}

cudaError_t cudaMemset2DAsync(void* pointer, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t stream) {
    return api("cudaMemset2DAsync",
               [&] { return set("cudaMemset2DAsync", pointer, pitch, value, width, height, stream, true); });
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, std::size_t size, std::size_t offset,
                               cudaMemcpyKind kind) {
    return api("cudaMemcpyToSymbol", [&] {
        return copy_symbol({"cudaMemcpyToSymbol", nullptr, 0, from, 0, size, 1, kind, false}, symbol, offset,
                           true, nullptr);
    });
}

cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, std::size_t size,
                                    std::size_t offset, cudaMemcpyKind kind, cudaStream_t stream) {
    return api("cudaMemcpyToSymbolAsync", [&] {
        return copy_symbol({"cudaMemcpyToSymbolAsync", nullptr, 0, from, 0, size, 1, kind, true}, symbol,
                           offset, true, stream);
    });
}

cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, std::size_t size, std::size_t offset,
                                 cudaMemcpyKind kind) {
    return api("cudaMemcpyFromSymbol", [&] {
        return copy_symbol({"cudaMemcpyFromSymbol", to, 0, nullptr, 0, size, 1, kind, false}, symbol, offset,
                           false, nullptr);
    });
}

cudaError_t cudaMemcpyFromSymbolAsync(void* to, const void* symbol, std::size_t size, std::size_t offset,
                                      cudaMemcpyKind kind, cudaStream_t stream) {
    return api("cudaMemcpyFromSymbolAsync", [&] {
        return copy_symbol({"cudaMemcpyFromSymbolAsync", to, 0, nullptr, 0, size, 1, kind, true}, symbol,
                           offset, false, stream);
    });
}

}  // extern "C"
