// Shared memory: who wrote and read each byte, in which run between synchronisations, and the races that follow.
#include <algorithm>
#include <cstring>

#include "tools/vgpu/executor/executor.h"

namespace vgpu::device {

void Executor::begin_shadow(U32 bytes) {
    constexpr U32 slack = 16;
    if (writer_.size() < bytes + slack || next_identity_ > identity_mask / 2) {
        const std::size_t size = std::max<std::size_t>(writer_.size(), bytes + slack);
        writer_.assign(size, 0);
        reader_.assign(size, 0);
        other_reader_.assign(size, 0);
        next_identity_ = 1;
    }
    shadow = {writer_.data(), reader_.data(), other_reader_.data()};
    block_first = epoch_first = next_identity_;
    next_identity_ += thread_count_;
    late_owners_.clear();
    warp_clock_.clear();
}

// Everything so far is ordered before everything from now on.
void Executor::new_epoch() {
    epoch_first = next_identity_;
    next_identity_ += thread_count_;
    late_owners_.clear();
    warp_clock_.clear();
    if (next_identity_ > identity_mask - (1u << 16)) {
        // The numbers run out within one block: begin again, keeping what was written and what is in flight.
        for (U32 k = 0; k < shared_size; ++k) {
            const U32 kept = writer_[k] & identity_async;
            writer_[k] = (writer_[k] & identity_mask) >= block_first ? 1 | kept : 0;
            reader_[k] = other_reader_[k] = 0;
        }
        block_first = 1;
        epoch_first = 1 + thread_count_;
        next_identity_ = epoch_first + thread_count_;
    }
    for (U32 k = 0; k < thread_count_; ++k) {
        threads_[k].identity = epoch_first + k;
    }
    for (Warp& w : warps_) {
        w.ordered_before = 0;
        w.clock.reset();
    }
}

U32 Executor::owner(U32 identity) const {
    const U32 k = identity - epoch_first;
    return k < thread_count_ ? k : late_owners_[k - thread_count_];
}

bool Executor::ordered(const ThreadState& me, U32 identity) const {
    identity &= identity_mask;
    if (identity < epoch_first) {
        return true;
    }
    const U32 other = owner(identity);
    if (other == me.linear) {
        return true;
    }
    const U32 my_warp = me.linear >> 5;
    if (other >> 5 == my_warp) {
        const Warp& w = warps_[my_warp];
        return identity < w.ordered_before ||
               (w.clock != nullptr && identity < w.clock[me.lane()][other & 31]);
    }
    return !warp_clock_.empty() && identity < warp_clock_[my_warp][other >> 5];
}

// Gives each thread a new identity; returns the first.
U32 Executor::new_identities(const std::vector<ThreadState*>& threads) {
    const U32 first = next_identity_;
    for (ThreadState* t : threads) {
        t->identity = next_identity_++;
        late_owners_.push_back(static_cast<U16>(t->linear));
    }
    return first;
}

// __syncwarp of these lanes.
void Executor::order_lanes(Warp& w, U32 lanes) {
    std::vector<ThreadState*> members;
    for (U32 l = 0; l < 32; ++l) {
        if (lanes >> l & 1) {
            members.push_back(&threads_[w.first + l]);
        }
    }
    const U32 first = new_identities(members);
    if (lanes == ~w.exited) {
        w.ordered_before = first;
        return;
    }
    if (w.clock == nullptr) {
        w.clock = std::make_unique<U32[][32]>(32);
    }
    U32 merged[32] = {};
    for (const ThreadState* t : members) {
        for (U32 l = 0; l < 32; ++l) {
            merged[l] = std::max(merged[l], w.clock[t->lane()][l]);
        }
    }
    for (const ThreadState* t : members) {
        merged[t->lane()] = first;
    }
    for (const ThreadState* t : members) {
        std::memcpy(w.clock[t->lane()], merged, sizeof(merged));
    }
}

// A barrier of a part of the block: the waiting threads' warps see what all participants' warps did.
void Executor::order_warps(const std::vector<ThreadState*>& waiting,
                           const std::vector<ThreadState*>& arrivers) {
    if (warp_clock_.empty()) {
        warp_clock_.assign(warps_.size(), std::vector<U32>(warps_.size(), 0));
    }
    std::vector<ThreadState*> all = waiting;
    all.insert(all.end(), arrivers.begin(), arrivers.end());
    const U32 first = new_identities(all);
    std::vector<U32> merged(warps_.size(), 0);
    for (const ThreadState* t : all) {
        for (std::size_t w = 0; w < warps_.size(); ++w) {
            merged[w] = std::max(merged[w], warp_clock_[t->linear >> 5][w]);
        }
    }
    for (const ThreadState* t : all) {
        merged[t->linear >> 5] = first;
    }
    std::vector<U32> members(warps_.size(), 0);
    for (const ThreadState* t : waiting) {
        warp_clock_[t->linear >> 5] = merged;
        members[t->linear >> 5] |= 1u << t->lane();
    }
    for (std::size_t w = 0; w < warps_.size(); ++w) {
        if (members[w] != 0 && members[w] == ~warps_[w].exited) {
            warps_[w].ordered_before = first;
        }
    }
}

// --- slow paths of the checks ------------------------------------------------------------------------------------
void shared_read_conflict(Thread& thread, U32 address, U32 size, U32 site, bool atomic) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    for (U32 k = address; k < address + size; ++k) {
        U32& writer = e.shadow.writer[k];
        const U32 id = writer & identity_mask;
        if (id < e.block_first) {
            e.fault(t, Fault::uninitialised, site, address, size,
                    "reads shared memory that no thread of this block has written");
            return;
        }
        if ((writer & identity_async) != 0) {
            const bool own = id >= e.epoch_first && e.owner(id) == t.linear;
            e.fault(t, Fault::async_not_waited, site, address, size,
                    own ? std::string("reads the target of its own cp.async before cp.async.wait_group")
                        : "reads the target of a cp.async that has not been waited for by the thread that "
                          "issued it");
            return;
        }
        if (e.ordered(t, id)) {
            if (id < e.epoch_first) {
                writer = id;  // an atomic of an earlier epoch is an ordinary value now
            }
            continue;
        }
        if (atomic && (writer & identity_atomic) != 0) {
            continue;
        }
        e.fault(t, Fault::race, site, address, size,
                "reads shared memory that " + e.name(e.thread(e.owner(id))) +
                    " wrote, with no barrier in between");
        return;
    }
}

// This thread becomes the byte's last reader. The one before stays as the other reader, unless that place holds one of
// another warp already: whoever writes next conflicts with at least one of the two if it conflicts with any.
void shared_second_reader(Thread& thread, U32 address, U32 size) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    for (U32 k = address; k < address + size; ++k) {
        const U32 before = e.shadow.reader[k];
        const U32 id = before & identity_mask;
        if (id < e.epoch_first || e.owner(id) == t.linear) {
            continue;
        }
        const U32 other = e.shadow.other_reader[k] & identity_mask;
        if (other < e.epoch_first || e.owner(other) >> 5 == t.warp()) {
            e.shadow.other_reader[k] = before;
        }
    }
}

void shared_write_conflict(Thread& thread, U32 address, U32 size, U32 site, const void* value, bool atomic) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    const auto* bytes = static_cast<const unsigned char*>(value);
    const auto check = [&](U32 mark, bool wrote, U32 k) {
        const U32 id = mark & identity_mask;
        if (id < e.block_first) {
            return true;
        }
        if (wrote && (mark & identity_async) != 0) {
            e.fault(t, Fault::async_not_waited, site, address, size,
                    "writes the target of a cp.async that has not been waited for");
            return false;
        }
        if (e.ordered(t, id) || (atomic && (mark & identity_atomic) != 0)) {
            return true;
        }
        // Two threads that write the same value agree, whoever comes last.
        if (wrote && bytes != nullptr && bytes[k - address] == e.shared[k]) {
            return true;
        }
        e.fault(t, Fault::race, site, address, size,
                "writes shared memory that " + e.name(e.thread(e.owner(id))) + (wrote ? " wrote" : " read") +
                    ", with no barrier in between");
        return false;
    };
    for (U32 k = address; k < address + size; ++k) {
        if (!check(e.shadow.writer[k], true, k) || !check(e.shadow.reader[k], false, k) ||
            !check(e.shadow.other_reader[k], false, k)) {
            return;
        }
    }
}

void shared_fault(Thread& thread, U32 address, U32 size, U32 site, Access access) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    const char* verb = access == Access::read ? "reads " : "writes ";
    if (address < e.shared_size && e.shared_size - address >= size) {
        e.fault(t, Fault::misaligned, site, address, size,
                verb + std::to_string(size) + " bytes of shared memory at offset " + std::to_string(address) +
                    ", which is not a multiple of " + std::to_string(size));
    } else {
        e.fault(t, Fault::out_of_bounds, site, address, size,
                verb + std::to_string(size) + " bytes of shared memory at offset " +
                    std::to_string(static_cast<S32>(address)) + "; the block has " +
                    std::to_string(e.shared_size) + " bytes (" + std::to_string(e.static_shared) +
                    " static, " + std::to_string(e.dynamic_shared) + " dynamic)");
    }
    e.abort();
}

}  // namespace vgpu::device
