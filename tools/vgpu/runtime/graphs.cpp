// Graphs: what was captured, made executable and launched. Nodes keep the closures of their capture, so
// device pointers and arguments are those of the capture, and memory contents those of the launch.
#include <memory>
#include <utility>

#include "tools/vgpu/runtime/state.h"

namespace {

using namespace vgpu::detail;
using vgpu::Work;
using vgpu::WorkKind;

// Nodes that follow each other share a lane, branches do not: between branches nothing is ordered.
std::vector<std::uint32_t> assign_lanes(const std::vector<Node>& nodes) {
    std::vector<std::uint32_t> lanes(nodes.size());
    std::vector<bool> continued(nodes.size(), false);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        bool found = false;
        for (const std::size_t before : nodes[i].dependencies) {
            if (!found && !continued[before]) {
                lanes[i] = lanes[before];
                continued[before] = found = true;
            }
        }
        if (!found) {
            lanes[i] = new_lane();
        }
    }
    return lanes;
}

void release_lanes(const GraphExec& exec) {
    const std::set<std::uint32_t> distinct(exec.lanes.begin(), exec.lanes.end());
    if (exec.last == nullptr || exec.last->done) {
        for (const std::uint32_t lane : distinct) {
            release_lane(lane);
        }
    }
}

cudaError_t instantiate(cudaGraphExec_t* handle, cudaGraph_t graph_handle, const char* call) {
    const auto graph = state().graphs.find(graph_handle, call);
    if (graph == nullptr || handle == nullptr) {
        return cudaErrorInvalidValue;
    }
    auto exec = std::make_shared<GraphExec>();
    exec->nodes = graph->nodes;
    exec->lanes = assign_lanes(exec->nodes);
    *handle = static_cast<cudaGraphExec_t>(state().execs.insert(std::move(exec)));
    return cudaSuccess;
}

Work marker(const char* name) {
    Work work;
    work.name = name;
    work.kind = WorkKind::empty;
    return work;
}

cudaError_t launch_into_capture(const GraphExec& exec, Stream& stream) {
    Capture& capture = *stream.capture;
    if (capture.invalid) {
        return cudaErrorStreamCaptureInvalidated;
    }
    auto& nodes = capture.graph.nodes;
    const std::size_t first = nodes.size();
    std::vector<bool> leaf(exec.nodes.size(), true);
    for (const Node& node : exec.nodes) {
        Node copy = node;
        for (std::size_t& before : copy.dependencies) {
            leaf[before] = false;
            before += first;
        }
        if (copy.dependencies.empty()) {
            copy.dependencies = stream.tail;
        }
        nodes.push_back(std::move(copy));
    }
    std::vector<std::size_t> tail;
    for (std::size_t i = 0; i < leaf.size(); ++i) {
        if (leaf[i]) {
            tail.push_back(first + i);
        }
    }
    if (!tail.empty()) {
        stream.tail = std::move(tail);
    }
    return cudaSuccess;
}

cudaError_t launch(GraphExec& exec, Stream& stream) {
    if (stream.capture != nullptr) {
        return launch_into_capture(exec, stream);
    }
    OperationPtr start;
    // Through enqueue, for the default stream's rules about captures.
    if (const cudaError_t error = enqueue(stream, marker("graph launch"), &start); error != cudaSuccess) {
        return error;
    }
    if (exec.last != nullptr) {
        start = submit(stream, marker("graph launch"), {exec.last});
    }
    std::vector<OperationPtr> operations;
    std::vector<bool> leaf(exec.nodes.size(), true);
    for (std::size_t i = 0; i < exec.nodes.size(); ++i) {
        std::vector<OperationPtr> after;
        for (const std::size_t before : exec.nodes[i].dependencies) {
            leaf[before] = false;
            after.push_back(operations[before]);
        }
        if (after.empty()) {
            after.push_back(start);
        }
        operations.push_back(
            submit(exec.nodes[i].work, exec.lanes[i], stream.number, after, exec.nodes[i].view));
    }
    std::vector<OperationPtr> leaves;
    for (std::size_t i = 0; i < operations.size(); ++i) {
        if (leaf[i]) {
            leaves.push_back(operations[i]);
        }
    }
    exec.last = submit(stream, marker("graph end"), leaves);
    return cudaSuccess;
}

cudaGraphExecUpdateResult compare(const std::vector<Node>& now, const std::vector<Node>& next,
                                  std::size_t& place) {
    for (place = 0; place < now.size() && place < next.size(); ++place) {
        const Node& a = now[place];
        const Node& b = next[place];
        if (a.work.kind != b.work.kind) {
            return cudaGraphExecUpdateErrorNodeTypeChanged;
        }
        if (a.dependencies != b.dependencies) {
            return cudaGraphExecUpdateErrorTopologyChanged;
        }
        if (a.work.identity != b.work.identity) {
            return cudaGraphExecUpdateErrorFunctionChanged;
        }
    }
    return now.size() == next.size() ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
}

// A node's handle names its graph and its place there.
constexpr std::uintptr_t node_tag = 0x55;
constexpr std::uintptr_t graph_tag = 0x53;

cudaGraphNode_t node_handle(cudaGraph_t graph, std::size_t place) {
    const std::uintptr_t number = (reinterpret_cast<std::uintptr_t>(graph) & 0xffffff) >> 4;
    return reinterpret_cast<cudaGraphNode_t>((node_tag << 40) + (number << 20) + place);
}

}  // namespace

extern "C" {

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    return api("cudaGraphInstantiate", [&] { return instantiate(exec, graph, "cudaGraphInstantiate"); });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    return api("cudaGraphInstantiateWithFlags",
               [&] { return instantiate(exec, graph, "cudaGraphInstantiateWithFlags"); });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
    return api("cudaGraphUpload", [&] {
        const bool known = state().execs.find(exec, "cudaGraphUpload") != nullptr &&
                           find_stream(stream, "cudaGraphUpload") != nullptr;
        return known ? cudaSuccess : cudaErrorInvalidValue;
    });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
    return api("cudaGraphLaunch", [&] {
        const auto exec = state().execs.find(handle, "cudaGraphLaunch");
        const auto stream = find_stream(stream_handle, "cudaGraphLaunch");
        return exec == nullptr || stream == nullptr ? cudaErrorInvalidValue : launch(*exec, *stream);
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    return api("cudaGraphDestroy", [&] {
        if (state().graphs.find(graph, "cudaGraphDestroy") == nullptr) {
            return cudaErrorInvalidValue;
        }
        state().graphs.erase(graph);
        return cudaSuccess;
    });
}

// Launches that are under way still finish.
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
    return api("cudaGraphExecDestroy", [&] {
        const auto exec = state().execs.find(handle, "cudaGraphExecDestroy");
        if (exec == nullptr) {
            return cudaErrorInvalidValue;
        }
        release_lanes(*exec);
        state().execs.erase(handle);
        return cudaSuccess;
    });
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec_handle, cudaGraph_t graph_handle,
                                cudaGraphExecUpdateResultInfo* result) {
    return api("cudaGraphExecUpdate", [&] {
        const auto exec = state().execs.find(exec_handle, "cudaGraphExecUpdate");
        const auto graph = state().graphs.find(graph_handle, "cudaGraphExecUpdate");
        if (exec == nullptr || graph == nullptr || result == nullptr) {
            return cudaErrorInvalidValue;
        }
        std::size_t place = 0;
        *result = {};
        result->result = compare(exec->nodes, graph->nodes, place);
        if (result->result != cudaGraphExecUpdateSuccess) {
            result->errorNode = place < graph->nodes.size() ? node_handle(graph_handle, place) : nullptr;
            return cudaErrorGraphExecUpdateFailure;
        }
        exec->nodes = graph->nodes;
        return cudaSuccess;
    });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t handle, cudaGraphNode_t* nodes, std::size_t* count) {
    return api("cudaGraphGetNodes", [&] {
        const auto graph = state().graphs.find(handle, "cudaGraphGetNodes");
        if (graph == nullptr || count == nullptr) {
            return cudaErrorInvalidValue;
        }
        if (nodes == nullptr) {
            *count = graph->nodes.size();
            return cudaSuccess;
        }
        for (std::size_t i = 0; i < *count; ++i) {
            nodes[i] = i < graph->nodes.size() ? node_handle(handle, i) : nullptr;
        }
        *count = std::min(*count, graph->nodes.size());
        return cudaSuccess;
    });
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
    return api("cudaGraphNodeGetType", [&] {
        const auto value = reinterpret_cast<std::uintptr_t>(node);
        const auto graph =
            state().graphs.find(reinterpret_cast<void*>((graph_tag << 40) + (((value >> 20) & 0xfffff) << 4)),
                                "cudaGraphNodeGetType");
        if (value >> 40 != node_tag || graph == nullptr || (value & 0xfffff) >= graph->nodes.size()) {
            return cudaErrorInvalidValue;
        }
        switch (graph->nodes[value & 0xfffff].work.kind) {
            case WorkKind::kernel:
            case WorkKind::library:
                *type = cudaGraphNodeTypeKernel;
                break;
            case WorkKind::copy:
                *type = cudaGraphNodeTypeMemcpy;
                break;
            case WorkKind::set:
                *type = cudaGraphNodeTypeMemset;
                break;
            case WorkKind::host_function:
                *type = cudaGraphNodeTypeHost;
                break;
            default:
                *type = cudaGraphNodeTypeEmpty;
        }
        return cudaSuccess;
    });
}

}  // extern "C"
