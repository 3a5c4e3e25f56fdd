// Reports, and what cannot go on.
#include <map>

#include "tools/vgpu/executor/executor.h"

namespace vgpu::device {

std::string Executor::name(const ThreadState& t) const {
    const U32 k = t.linear;
    return "thread (" + std::to_string(k % block_size[0]) + ", " +
           std::to_string(k / block_size[0] % block_size[1]) + ", " +
           std::to_string(k / (block_size[0] * block_size[1])) + ")";
}

// Each kind is reported once per instruction and launch.
bool Executor::fault(ThreadState& t, Fault kind, U32 at, U64 address, U32 size, const std::string& text) {
    if (!reported_.insert({static_cast<int>(kind), at}).second) {
        return false;
    }
    Report r;
    r.kind = kind;
    r.kernel = kernel_->name;
    r.file = site(at).file;
    r.line = site(at).line;
    for (int k = 0; k < 3; ++k) {
        r.block[k] = index[k];
        r.thread[k] = t.tid[k];
    }
    r.address = address;
    r.size = size;
    r.text = std::string(site(at).text) + " " + text;
    vgpu::report(std::move(r));
    return true;
}

void Executor::report_deadlock() {
    // Threads that wait for the same thing at the same line are named together.
    std::map<std::pair<std::string, U32>, std::vector<U32>> groups;
    ThreadState* first = nullptr;
    for (U32 k = 0; k < thread_count_; ++k) {
        ThreadState& t = threads_[k];
        if (t.state == State::waiting) {
            first = first == nullptr ? &t : first;
            groups[{t.waits_for, t.wait_site}].push_back(k);
        }
    }
    std::string text = "waits for ever.";
    for (const auto& [what, threads] : groups) {
        const Site& s = site(what.second);
        text += " " + std::to_string(threads.size()) + " thread" + (threads.size() == 1 ? "" : "s") +
                " (the first is " + name(threads_[threads.front()]) + ") wait at line " +
                std::to_string(s.line) + " in " + s.text + " for " + what.first;
        if (what.first.rfind("barrier", 0) != 0) {
            char mask[16];
            std::snprintf(mask, sizeof(mask), "0x%08x", threads_[threads.front()].wait_mask);
            text += std::string(" of the lanes ") + mask;
        }
        text += ".";
    }
    const U32 ended = thread_count_ - live_;
    if (ended != 0) {
        text += " " + std::to_string(ended) + " have ended.";
    }
    if (first != nullptr) {
        fault(*first, Fault::deadlock, first->wait_site, 0, 0, text);
    }
}

void trap(Thread& thread, U32 site) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    e.fault(t, Fault::unknown, site, 0, 0, "stops the kernel");
    e.abort();
}

void bad_call(Thread& thread, U32 site) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    e.fault(t, Fault::unknown, site, 0, 0, "jumps to no target");
    e.abort();
}

}  // namespace vgpu::device
