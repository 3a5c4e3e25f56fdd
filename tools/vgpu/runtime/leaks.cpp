// What a program forgot to give back.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tools/vgpu/runtime/state.h"

namespace vgpu {
namespace {

void add(std::vector<Leak>& list, const char* what, std::size_t bytes, const std::string& example) {
    const auto found =
        std::find_if(list.begin(), list.end(), [&](const Leak& leak) { return leak.what == what; });
    Leak& leak = found != list.end() ? *found : list.emplace_back();
    if (leak.count == 0) {
        leak.what = what;
        leak.example = example;
    }
    ++leak.count;
    leak.bytes += bytes;
}

// Runs after the destructors of static objects, so that memory they hold is no leak.
__attribute__((destructor)) void report_at_exit() {
    if (!detail::started()) {
        return;
    }
    const char* wanted = std::getenv("VGPU_LEAKS");
    if (wanted == nullptr || std::strcmp(wanted, "0") != 0) {
        for (const Leak& leak : leaks()) {
            std::string text = std::to_string(leak.count) + " x " + leak.what + " not given back";
            if (leak.bytes != 0) {
                text += ", " + std::to_string(leak.bytes) + " bytes";
            }
            detail::report_api(Fault::leak, "the process", text + "; the first: " + leak.example);
        }
    }
    const char* code = std::getenv("VGPU_EXIT_CODE");
    if (code != nullptr && report_count() != 0) {
        std::fflush(nullptr);
        _exit(std::atoi(code));
    }
}

}  // namespace

std::vector<Leak> leaks() {
    const detail::State& s = detail::state();
    std::lock_guard<std::recursive_mutex> lock(detail::state().mutex);
    std::vector<Leak> list;
    for (const auto& [handle, stream] : s.streams.values()) {
        add(list, "stream", 0, "stream " + std::to_string(stream->number));
    }
    for (const auto& [handle, event] : s.events.values()) {
        add(list, "event", 0, "event " + std::to_string(event->number));
    }
    for (const auto& [handle, graph] : s.graphs.values()) {
        add(list, "graph", 0, "a graph of " + std::to_string(graph->nodes.size()) + " nodes");
    }
    for (const auto& [handle, exec] : s.execs.values()) {
        add(list, "graph exec", 0, "an executable graph of " + std::to_string(exec->nodes.size()) + " nodes");
    }
    for (std::size_t i = 0; i < s.cublaslt.values().size(); ++i) {
        add(list, "cuBLASLt handle", 0, "cublasLtCreate");
    }
    for (const auto& [handle, descriptor] : s.lt_descriptors.values()) {
        const char* const kinds[] = {"a matrix layout", "an operation", "a preference"};
        add(list, "cuBLASLt descriptor", 0, kinds[static_cast<int>(descriptor->kind)]);
    }
    for (std::size_t i = 0; i < s.cudnn.values().size(); ++i) {
        add(list, "cuDNN handle", 0, "cudnnCreate");
    }
    for (const auto& [handle, descriptor] : s.dnn_descriptors.values()) {
        add(list, "cuDNN descriptor", 0,
            "one of cudnnBackendDescriptorType_t " + std::to_string(descriptor->kind));
    }
    for (const Allocation* record : detail::live_allocations()) {
        const std::string example = "allocation " + std::to_string(record->number) + " of " +
                                    std::to_string(record->size) + " bytes by " + record->label;
        if (record->kind == MemoryKind::device && !record->free_queued) {
            add(list, "device memory", record->size, example);
        } else if (record->kind == MemoryKind::pinned) {
            add(list, record->label == "cudaHostRegister" ? "registered memory" : "pinned memory",
                record->size, example);
        }
    }
    return list;
}

}  // namespace vgpu
