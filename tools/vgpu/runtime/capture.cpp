// Stream capture: work goes into a graph instead of a queue; events carry the capture from stream to stream.
#include <algorithm>
#include <utility>

#include "tools/vgpu/runtime/state.h"

namespace vgpu::detail {
namespace {

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

void add_unique(std::vector<std::size_t>& into, const std::vector<std::size_t>& nodes) {
    for (const std::size_t node : nodes) {
        if (std::find(into.begin(), into.end(), node) == into.end()) {
            into.push_back(node);
        }
    }
}

// Marks the nodes and all that come before them.
std::vector<bool> reached_from(const Graph& graph, const std::vector<std::size_t>& nodes) {
    std::vector<bool> reached(graph.nodes.size(), false);
    std::vector<std::size_t> open = nodes;
    while (!open.empty()) {
        const std::size_t node = open.back();
        open.pop_back();
        if (!reached[node]) {
            reached[node] = true;
            open.insert(open.end(), graph.nodes[node].dependencies.begin(),
                        graph.nodes[node].dependencies.end());
        }
    }
    return reached;
}

void end(const std::shared_ptr<Capture>& capture) {
    for (const auto& stream : capture->streams) {
        stream->capture = nullptr;
        stream->tail.clear();
    }
    std::erase(state().captures, capture);
}

cudaError_t begin(const std::shared_ptr<Stream>& stream, cudaStreamCaptureMode mode) {
    State& s = state();
    if (stream == s.legacy) {
        return cudaErrorStreamCaptureUnsupported;
    }
    if (stream->capture != nullptr) {
        return cudaErrorIllegalState;
    }
    auto capture = std::make_shared<Capture>();
    capture->number = ++s.capture_count;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->origin = stream.get();
    capture->streams.push_back(stream);
    stream->capture = capture;
    stream->tail.clear();
    s.captures.push_back(std::move(capture));
    return cudaSuccess;
}

cudaError_t finish(const std::shared_ptr<Stream>& stream, cudaGraph_t* graph) {
    const std::shared_ptr<Capture> capture = stream->capture;
    *graph = nullptr;
    if (capture == nullptr) {
        return cudaErrorIllegalState;
    }
    if (capture->origin != stream.get()) {
        return cudaErrorStreamCaptureUnmatched;
    }
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
        return cudaErrorStreamCaptureWrongThread;
    }
    const std::vector<bool> joined = reached_from(capture->graph, stream->tail);
    const bool unjoined =
        std::any_of(capture->streams.begin(), capture->streams.end(), [&](const auto& other) {
            return std::any_of(other->tail.begin(), other->tail.end(),
                               [&](std::size_t node) { return !joined[node]; });
        });
    end(capture);
    if (capture->invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    if (unjoined) {
        return cudaErrorStreamCaptureUnjoined;
    }
    *graph =
        static_cast<cudaGraph_t>(state().graphs.insert(std::make_shared<Graph>(std::move(capture->graph))));
    return cudaSuccess;
}

}  // namespace

cudaError_t refuse_while_capturing() {
    if (thread_mode == cudaStreamCaptureModeRelaxed) {
        return cudaSuccess;
    }
    bool refused = false;
    for (const auto& capture : state().captures) {
        const bool ours = capture->thread == std::this_thread::get_id();
        const bool forbids = capture->mode == cudaStreamCaptureModeGlobal
                                 ? ours || thread_mode == cudaStreamCaptureModeGlobal
                                 : capture->mode == cudaStreamCaptureModeThreadLocal && ours;
        if (forbids) {
            capture->invalid = refused = true;
        }
    }
    return refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t add_node(Stream& stream, Work work) {
    Capture& capture = *stream.capture;
    if (capture.invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    capture.graph.nodes.push_back({std::move(work), stream.tail, current_view()});
    stream.tail = {capture.graph.nodes.size() - 1};
    return cudaSuccess;
}

cudaError_t wait_in_capture(const std::shared_ptr<Stream>& stream, const Event& event) {
    if (event.capture == nullptr) {
        if (event.operation == nullptr) {
            return cudaSuccess;  // never recorded
        }
        stream->capture->invalid = true;
        return cudaErrorStreamCaptureIsolation;
    }
    const auto& captures = state().captures;
    if (std::find(captures.begin(), captures.end(), event.capture) == captures.end()) {
        return cudaErrorCapturedEvent;  // that capture has ended
    }
    if (event.capture->invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    if (stream->capture == nullptr) {
        if (stream == state().legacy) {
            event.capture->invalid = true;
            return cudaErrorStreamCaptureImplicit;
        }
        stream->capture = event.capture;
        stream->capture->streams.push_back(stream);
        stream->tail.clear();
    } else if (stream->capture != event.capture) {
        stream->capture->invalid = event.capture->invalid = true;
        return cudaErrorStreamCaptureMerge;
    }
    add_unique(stream->tail, event.nodes);
    return cudaSuccess;
}

void abandon_captures() {
    while (!state().captures.empty()) {
        end(state().captures.back());
    }
}

}  // namespace vgpu::detail

using namespace vgpu::detail;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    return api("cudaStreamBeginCapture", [&] {
        const auto stream = find_stream(handle, "cudaStreamBeginCapture");
        return stream == nullptr ? cudaErrorInvalidResourceHandle : begin(stream, mode);
    });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    return api("cudaStreamEndCapture", [&] {
        const auto stream = find_stream(handle, "cudaStreamEndCapture");
        if (stream == nullptr || graph == nullptr) {
            return stream == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue;
        }
        return finish(stream, graph);
    });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    return api("cudaStreamIsCapturing", [&] {
        const auto stream = find_stream(handle, "cudaStreamIsCapturing");
        if (stream == nullptr || status == nullptr) {
            return stream == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue;
        }
        *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
                  : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                             : cudaStreamCaptureStatusActive;
        return cudaSuccess;
    });
}

// Status and number only: the graph under construction is not shown.
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph,
                                     const cudaGraphNode_t** dependencies, const cudaGraphEdgeData** edges,
                                     std::size_t* count) {
    return api("cudaStreamGetCaptureInfo", [&] {
        const auto stream = find_stream(handle, "cudaStreamGetCaptureInfo");
        if (stream == nullptr || status == nullptr) {
            return stream == nullptr ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue;
        }
        if (graph != nullptr || dependencies != nullptr || edges != nullptr || count != nullptr) {
            return cudaErrorNotSupported;
        }
        *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
                  : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                             : cudaStreamCaptureStatusActive;
        if (id != nullptr && stream->capture != nullptr) {
            *id = stream->capture->number;
        }
        return cudaSuccess;
    });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    return api("cudaThreadExchangeStreamCaptureMode", [&] {
        std::swap(*mode, thread_mode);
        return cudaSuccess;
    });
}

}  // extern "C"
