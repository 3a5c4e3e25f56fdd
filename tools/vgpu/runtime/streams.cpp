// Streams and events.
#include <chrono>
#include <memory>
#include <utility>

#include "tools/vgpu/runtime/state.h"

namespace {

using namespace vgpu::detail;
using vgpu::Work;
using vgpu::WorkKind;

cudaError_t create_stream(cudaStream_t* handle, unsigned flags, int priority) {
    if (handle == nullptr || (flags & ~static_cast<unsigned>(cudaStreamNonBlocking)) != 0) {
        return cudaErrorInvalidValue;
    }
    auto stream = std::make_shared<Stream>();
    stream->flags = flags;
    stream->priority = priority;
    stream->lane = new_lane();
    stream->number = state().streams.count() + 1;
    *handle = static_cast<cudaStream_t>(state().streams.insert(std::move(stream)));
    return cudaSuccess;
}

// Calls that wait for one stream or event may not be made while it is being captured.
cudaError_t refuse(const std::shared_ptr<Capture>& capture) {
    capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
}

// What a synchronisation with this stream waits for.
std::vector<OperationPtr> tail_of(const std::shared_ptr<Stream>& stream) {
    if (stream == state().legacy) {
        return before_default_stream();
    }
    return stream->last == nullptr ? std::vector<OperationPtr>{} : std::vector<OperationPtr>{stream->last};
}

cudaError_t create_event(cudaEvent_t* handle, unsigned flags) {
    constexpr unsigned known = cudaEventBlockingSync | cudaEventDisableTiming;
    if (handle == nullptr || (flags & ~known) != 0) {
        return cudaErrorInvalidValue;
    }
    auto event = std::make_shared<Event>();
    event->flags = flags;
    event->number = state().events.count() + 1;
    *handle = static_cast<cudaEvent_t>(state().events.insert(std::move(event)));
    return cudaSuccess;
}

cudaError_t record_event(cudaEvent_t handle, cudaStream_t stream_handle, const char* call) {
    const auto event = state().events.find(handle, call);
    const auto stream = find_stream(stream_handle, call);
    if (event == nullptr || stream == nullptr) {
        return cudaErrorInvalidResourceHandle;
    }
    if (stream->capture != nullptr) {
        if (stream->capture->invalid) {
            return cudaErrorStreamCaptureInvalidated;
        }
        event->capture = stream->capture;
        event->nodes = stream->tail;
        event->operation = nullptr;
        return cudaSuccess;
    }
    Work work;
    work.name = "event " + std::to_string(event->number);
    work.kind = WorkKind::event;
    OperationPtr operation;
    if (const cudaError_t error = enqueue(*stream, std::move(work), &operation); error != cudaSuccess) {
        return error;
    }
    event->capture = nullptr;
    event->operation = operation;
    return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return api("cudaStreamCreate", [&] { return create_stream(stream, cudaStreamDefault, 0); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    return api("cudaStreamCreateWithFlags", [&] { return create_stream(stream, flags, 0); });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
    return api("cudaStreamCreateWithPriority", [&] { return create_stream(stream, flags, priority); });
}

// Work in the stream still runs, as in the real one; the handle is gone at once.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    return api("cudaStreamDestroy", [&] {
        const auto stream = state().streams.find(handle, "cudaStreamDestroy");
        if (stream == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (stream->capture != nullptr) {
            return refuse(stream->capture);
        }
        if (stream->last == nullptr || stream->last->done) {
            release_lane(stream->lane);
        } else if (stream->blocking()) {
            state().orphans.push_back(stream->last);
        }
        state().streams.erase(handle);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    return api("cudaStreamSynchronize", [&] {
        const auto stream = find_stream(handle, "cudaStreamSynchronize");
        if (stream == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (stream->capture != nullptr) {
            return refuse(stream->capture);
        }
        for (const OperationPtr& operation : tail_of(stream)) {
            wait_for(operation);
        }
        return state().sticky.load();
    });
}

// Every question lets the device do a little more, so that a loop of questions ends.
cudaError_t cudaStreamQuery(cudaStream_t handle) {
    return api("cudaStreamQuery", [&] {
        const auto stream = find_stream(handle, "cudaStreamQuery");
        if (stream == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (stream->capture != nullptr) {
            return refuse(stream->capture);
        }
        for (const OperationPtr& operation : tail_of(stream)) {
            if (!operation->done) {
                make_progress(operation);
                return cudaErrorNotReady;
            }
            wait_for(operation);
        }
        return state().sticky.load();
    });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t event_handle, unsigned) {
    return api("cudaStreamWaitEvent", [&] {
        const auto stream = find_stream(stream_handle, "cudaStreamWaitEvent");
        const auto event = state().events.find(event_handle, "cudaStreamWaitEvent");
        if (stream == nullptr || event == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (stream->capture != nullptr || event->capture != nullptr) {
            return wait_in_capture(stream, *event);
        }
        if (event->operation == nullptr) {
            return cudaSuccess;  // never recorded: nothing to wait for
        }
        Work work;
        work.name = "wait for event " + std::to_string(event->number);
        work.kind = WorkKind::event;
        submit(*stream, std::move(work), {event->operation});
        return cudaSuccess;
    });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
    return api("cudaLaunchHostFunc", [&] {
        const auto stream = find_stream(handle, "cudaLaunchHostFunc");
        if (stream == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (function == nullptr) {
            return cudaErrorInvalidValue;
        }
        Work work;
        work.name = "host function";
        work.kind = WorkKind::host_function;
        work.run = [function, data] { function(data); };
        return enqueue(*stream, std::move(work), nullptr);
    });
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
    return api("cudaStreamGetFlags", [&] {
        const auto stream = find_stream(handle, "cudaStreamGetFlags");
        if (stream == nullptr || flags == nullptr) {
            return stream == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue;
        }
        *flags = stream->flags;
        return cudaSuccess;
    });
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
    return api("cudaStreamGetPriority", [&] {
        const auto stream = find_stream(handle, "cudaStreamGetPriority");
        if (stream == nullptr || priority == nullptr) {
            return stream == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue;
        }
        *priority = stream->priority;
        return cudaSuccess;
    });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    return api("cudaEventCreate", [&] { return create_event(event, cudaEventDefault); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    return api("cudaEventCreateWithFlags", [&] { return create_event(event, flags); });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    return api("cudaEventDestroy", [&] {
        if (state().events.find(event, "cudaEventDestroy") == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        state().events.erase(event);
        return cudaSuccess;
    });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return api("cudaEventRecord", [&] { return record_event(event, stream, "cudaEventRecord"); });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    return api("cudaEventRecordWithFlags", [&] {
        return flags == cudaEventRecordDefault ? record_event(event, stream, "cudaEventRecordWithFlags")
                                               : cudaErrorNotSupported;
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
    return api("cudaEventSynchronize", [&] {
        const auto event = state().events.find(handle, "cudaEventSynchronize");
        if (event == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (event->capture != nullptr) {
            event->capture->invalid = true;
            return cudaErrorCapturedEvent;
        }
        wait_for(event->operation);
        return state().sticky.load();
    });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
    return api("cudaEventQuery", [&] {
        const auto event = state().events.find(handle, "cudaEventQuery");
        if (event == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (event->capture != nullptr) {
            event->capture->invalid = true;
            return cudaErrorCapturedEvent;
        }
        if (event->operation != nullptr && !event->operation->done) {
            make_progress(event->operation);
            return cudaErrorNotReady;
        }
        wait_for(event->operation);
        return state().sticky.load();
    });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start_handle, cudaEvent_t end_handle) {
    return api("cudaEventElapsedTime", [&] {
        const auto start = state().events.find(start_handle, "cudaEventElapsedTime");
        const auto end = state().events.find(end_handle, "cudaEventElapsedTime");
        if (start == nullptr || end == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (milliseconds == nullptr) {
            return cudaErrorInvalidValue;
        }
        if (((start->flags | end->flags) & cudaEventDisableTiming) != 0 || start->operation == nullptr ||
            end->operation == nullptr) {
            return cudaErrorInvalidResourceHandle;
        }
        if (!start->operation->done || !end->operation->done) {
            return cudaErrorNotReady;
        }
        using Milliseconds = std::chrono::duration<float, std::milli>;
        *milliseconds = Milliseconds(end->operation->finished - start->operation->finished).count();
        return cudaSuccess;
    });
}

}  // extern "C"
