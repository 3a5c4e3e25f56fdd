// Queues and their execution. Nothing runs when it is enqueued: work runs when something waits for it, in an
// order that the schedule chooses among those that streams and events allow. So what CUDA leaves open does
// vary here.
#include <algorithm>
#include <exception>
#include <unordered_set>
#include <utility>

#include "tools/vgpu/runtime/state.h"

namespace vgpu {
namespace detail {
namespace {

void run(const OperationPtr& operation) {
    State& s = state();
    s.ready.erase(operation->number);
    s.pending.erase(operation->number);
    set_current(operation.get());
    set_running_view(true, operation->view);
    const WorkKind kind = operation->work.kind;
    // After a sticky error the device does nothing more; memory is still given back.
    if (operation->work.run && (s.sticky == cudaSuccess || kind == WorkKind::memory)) {
        if (kind == WorkKind::host_function) {
            ++s.host_functions;
            set_in_host_function(true);
        }
        try {
            operation->work.run();
        } catch (const std::exception& error) {
            Report entry;
            entry.text = std::string("the operation threw an exception: ") + error.what();
            report(std::move(entry));
        }
        set_in_host_function(false);
    }
    set_running_view(false, 0);
    set_current(nullptr);
    operation->done = true;
    operation->finished = std::chrono::steady_clock::now();
    operation->work.run = nullptr;
    operation->dependencies.clear();
    for (const OperationPtr& next : operation->dependents) {
        if (--next->waiting == 0) {
            s.ready.insert(next->number);
        }
    }
    operation->dependents.clear();
}

using Numbers = std::unordered_set<std::uint32_t>;

// The operation and all that must run before it.
Numbers needed_for(const OperationPtr& operation) {
    Numbers found;
    std::vector<const Operation*> open{operation.get()};
    while (!open.empty()) {
        const Operation* next = open.back();
        open.pop_back();
        if (!next->done && found.insert(next->number).second) {
            for (const OperationPtr& dependency : next->dependencies) {
                open.push_back(dependency.get());
            }
        }
    }
    return found;
}

// The next operation in the schedule's order; with a set, in reverse order only from that.
OperationPtr choose(const Numbers* needed) {
    State& s = state();
    switch (schedule().order) {
        case Order::forward:
            return s.pending.begin()->second;
        case Order::reverse:
            for (auto number = s.ready.rbegin(); number != s.ready.rend(); ++number) {
                if (needed == nullptr || needed->count(*number) != 0) {
                    return s.pending.at(*number);
                }
            }
            break;
        case Order::random: {
            auto number = s.ready.begin();
            std::advance(number, static_cast<std::ptrdiff_t>(s.random() % s.ready.size()));
            return s.pending.at(*number);
        }
    }
    return s.pending.begin()->second;
}

// The host has waited for these operations. Once it has waited for all, what lies behind them need not be
// kept.
void waited_for(const Clock& clock) {
    State& s = state();
    join(s.host, clock);
    if (s.pending.empty() &&
        std::equal(s.lane_sequence.begin(), s.lane_sequence.end(), s.host.begin(), s.host.end())) {
        forget_operations();
    }
}

std::shared_ptr<Stream> default_stream_of_thread() {
    State& s = state();
    auto& stream = s.per_thread[std::this_thread::get_id()];
    if (stream == nullptr) {
        stream = std::make_shared<Stream>();
        stream->number = 1000000 + static_cast<std::uint32_t>(s.per_thread.size());
        stream->lane = new_lane();
    }
    return stream;
}

}  // namespace

State& state() {
    static auto& instance = *new State;
    return instance;
}

std::uint32_t new_lane() {
    State& s = state();
    if (!s.free_lanes.empty()) {
        const std::uint32_t lane = s.free_lanes.back();
        s.free_lanes.pop_back();
        return lane;
    }
    s.lane_sequence.push_back(0);
    return static_cast<std::uint32_t>(s.lane_sequence.size() - 1);
}

void release_lane(std::uint32_t lane) {
    state().free_lanes.push_back(lane);
}

std::shared_ptr<Stream> find_stream(cudaStream_t handle, const char* call) {
    State& s = state();
    if (handle == nullptr || handle == cudaStreamLegacy) {
        if (s.legacy == nullptr) {
            s.legacy = std::make_shared<Stream>();
            s.legacy->lane = new_lane();
        }
        return s.legacy;
    }
    if (handle == cudaStreamPerThread) {
        return default_stream_of_thread();
    }
    return s.streams.find(handle, call);
}

std::vector<OperationPtr> before_default_stream() {
    State& s = state();
    std::vector<OperationPtr> all;
    const auto add = [&](const std::shared_ptr<Stream>& stream) {
        if (stream != nullptr && stream->blocking() && stream->last != nullptr) {
            all.push_back(stream->last);
        }
    };
    add(s.legacy);
    for (const auto& [thread, stream] : s.per_thread) {
        add(stream);
    }
    for (const auto& [handle, stream] : s.streams.values()) {
        add(stream);
    }
    std::erase_if(s.orphans, [](const OperationPtr& last) { return last->done; });
    all.insert(all.end(), s.orphans.begin(), s.orphans.end());
    return all;
}

OperationPtr submit(Work work, std::uint32_t lane, std::uint32_t stream_number,
                    const std::vector<OperationPtr>& after, std::uint64_t view) {
    State& s = state();
    auto operation = std::make_shared<Operation>();
    operation->lane = lane;
    operation->view = view;
    operation->clock = s.host;
    for (const OperationPtr& other : after) {
        join(operation->clock, other->clock);
    }
    if (operation->clock.size() <= lane) {
        operation->clock.resize(lane + 1, 0);
    }
    const std::uint32_t sequence = ++s.lane_sequence[lane];
    operation->clock[lane] = sequence;
    operation->number =
        next_operation_number(lane, sequence, work.name + " (stream " + std::to_string(stream_number) + ")");
    operation->work = std::move(work);
    for (const OperationPtr& other : after) {
        if (!other->done) {
            operation->dependencies.push_back(other);
            other->dependents.push_back(operation);
        }
    }
    operation->waiting = operation->dependencies.size();
    s.pending.emplace(operation->number, operation);
    if (operation->waiting == 0) {
        s.ready.insert(operation->number);
    }
    return operation;
}

OperationPtr submit(Stream& stream, Work work, const std::vector<OperationPtr>& also_after) {
    State& s = state();
    std::vector<OperationPtr> after;
    if (&stream == s.legacy.get()) {
        after = before_default_stream();
    } else {
        if (stream.last != nullptr) {
            after.push_back(stream.last);
        }
        if (stream.blocking() && s.legacy != nullptr && s.legacy->last != nullptr) {
            after.push_back(s.legacy->last);
        }
    }
    after.insert(after.end(), also_after.begin(), also_after.end());
    stream.last = submit(std::move(work), stream.lane, stream.number, after, current_view());
    return stream.last;
}

cudaError_t enqueue(Stream& stream, Work work, OperationPtr* operation) {
    State& s = state();
    if (stream.capture != nullptr) {
        return add_node(stream, std::move(work));
    }
    if (&stream == s.legacy.get()) {
        // The default stream would wait for the streams that are being captured.
        bool implicit = false;
        for (const auto& capture : s.captures) {
            for (const auto& captured : capture->streams) {
                if (captured->blocking() && capture->mode != cudaStreamCaptureModeRelaxed) {
                    capture->invalid = implicit = true;
                }
            }
        }
        if (implicit) {
            return cudaErrorStreamCaptureImplicit;
        }
    }
    const OperationPtr queued = submit(stream, std::move(work));
    if (operation != nullptr) {
        *operation = queued;
    }
    return cudaSuccess;
}

void wait_for(const OperationPtr& operation) {
    if (operation == nullptr) {
        return;
    }
    if (!operation->done) {
        const Numbers needed = needed_for(operation);
        while (!operation->done) {
            run(choose(&needed));
        }
    }
    waited_for(operation->clock);
}

void wait_for_all() {
    State& s = state();
    while (!s.pending.empty()) {
        run(choose(nullptr));
    }
    waited_for(s.lane_sequence);
}

void make_progress(const OperationPtr& operation) {
    if (operation != nullptr && !operation->done) {
        const Numbers needed = needed_for(operation);
        run(choose(&needed));
    }
}

// Tells the pools which of their released pieces queued or captured work still sees.
void collect_views() {
    State& s = state();
    std::lock_guard<std::recursive_mutex> lock(s.mutex);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> needed;
    const auto add_nodes = [&](const std::vector<Node>& nodes) {
        if (!nodes.empty()) {
            const auto [low, high] = std::minmax_element(
                nodes.begin(), nodes.end(), [](const Node& a, const Node& b) { return a.view < b.view; });
            needed.emplace_back(low->view, high->view);
        }
    };
    for (const auto& [handle, graph] : s.graphs.values()) {
        add_nodes(graph->nodes);
    }
    for (const auto& [handle, exec] : s.execs.values()) {
        add_nodes(exec->nodes);
    }
    for (const auto& capture : s.captures) {
        add_nodes(capture->graph.nodes);
    }
    std::uint64_t low = current_view();
    const std::uint64_t high = low;
    for (const auto& [number, operation] : s.pending) {
        // Replayed nodes carry the view of their capture, which the graphs above already named.
        low = std::min(low, operation->view);
    }
    needed.emplace_back(low, high);
    prune_suballocations(needed);
}

}  // namespace detail

cudaError_t enqueue(cudaStream_t stream, Work work) {
    detail::start_once();
    std::lock_guard<std::recursive_mutex> lock(detail::state().mutex);
    if (detail::state().sticky != cudaSuccess) {
        return detail::state().sticky;
    }
    const auto found = detail::find_stream(stream, work.name.c_str());
    if (found == nullptr) {
        return cudaErrorInvalidResourceHandle;
    }
    return detail::enqueue(*found, std::move(work), nullptr);
}

}  // namespace vgpu
