// Instructions in which the lanes of a warp meet: shuffles, votes, matches, reductions, __syncwarp.
//
// Each lane leaves a request on its own stack; the last to arrive computes everybody's result.
#include <algorithm>

#include "tools/vgpu/executor/executor.h"

namespace vgpu::device {

const char* meeting_name(Meeting kind) {
    static const char* const names[] = {"a shuffle", "a vote",     "a match",  "a reduction",
                                        "elect",     "__syncwarp", "ldmatrix", "stmatrix",
                                        "movmatrix", "mma",        "wmma"};
    return names[static_cast<int>(kind)];
}

void Executor::meet(ThreadState& t, U32 mask, Meeting kind, void* request,
                    void (*complete)(Executor&, Warp&, Collective&), U32 site) {
    Warp& w = warp(t);
    const U32 lane = t.lane();
    t.spins = 0;
    if ((mask >> lane & 1) == 0) {
        char text[96];
        std::snprintf(text, sizeof(text), "is executed by lane %u, which its mask 0x%08x does not name", lane,
                      mask);
        fault(t, Fault::lane_exit, site, 0, 0, text);
        mask |= 1u << lane;
    }
    Collective* c = nullptr;
    for (Collective& other : w.collectives) {
        if (other.active && other.mask == mask && other.kind == kind && (other.arrived >> lane & 1) == 0) {
            c = &other;
            break;
        }
    }
    if (c == nullptr) {
        for (Collective& other : w.collectives) {
            if (!other.active) {
                c = &other;
                break;
            }
        }
        if (c == nullptr) {
            c = &w.collectives.emplace_back();
        }
        c->active = true;
        c->kind = kind;
        c->mask = mask;
        c->arrived = 0;
        c->complete = complete;
    }
    c->arrived |= 1u << lane;
    c->requests[lane] = request;
    if (c->arrived != (mask & ~w.exited)) {
        wait(t, meeting_name(kind), site, mask);
        return;
    }
    complete(*this, w, *c);
    c->active = false;
    release_lanes(w, c->arrived);  // this lane among them, in the schedule's order
    yield_after_release(t);
}

// A lane has ended: those that wait for it may go on.
void Executor::check_meetings(Warp& w) {
    for (Collective& c : w.collectives) {
        if (c.active && c.arrived == (c.mask & ~w.exited)) {
            c.complete(*this, w, c);
            c.active = false;
            release_lanes(w, c.arrived);
        }
    }
}

namespace {

ThreadState& state(Thread& t) {
    return static_cast<ThreadState&>(t);
}

template <class F>
void each_lane(const Collective& c, F&& f) {
    for (U32 l = 0; l < 32; ++l) {
        if (c.arrived >> l & 1) {
            f(l);
        }
    }
}

struct ShuffleRequest {
    Shuffle mode;
    U32 value, b, c, site;
    ShuffleResult result;
};

void complete_shuffle(Executor& e, Warp& w, Collective& c) {
    each_lane(c, [&](U32 lane) {
        auto& r = *static_cast<ShuffleRequest*>(c.requests[lane]);
        const U32 segment = r.c >> 8 & 31;
        const U32 bound = r.c & 31;
        const U32 by = r.b & 31;
        const U32 last = (lane & segment) | (bound & ~segment & 31);
        const U32 first = lane & segment;
        S32 source = 0;
        bool in_range = false;
        switch (r.mode) {
            case Shuffle::up:
                source = static_cast<S32>(lane) - static_cast<S32>(by);
                in_range = source >= static_cast<S32>(last);
                break;
            case Shuffle::down:
                source = static_cast<S32>(lane + by);
                in_range = source <= static_cast<S32>(last);
                break;
            case Shuffle::bfly:
                source = static_cast<S32>(lane ^ by);
                in_range = source <= static_cast<S32>(last);
                break;
            case Shuffle::idx:
                source = static_cast<S32>(first | (by & ~segment));
                in_range = source <= static_cast<S32>(last);
                break;
        }
        if (!in_range) {
            source = static_cast<S32>(lane);
        }
        r.result.in_range = in_range;
        if (c.arrived >> source & 1) {
            r.result.value = static_cast<ShuffleRequest*>(c.requests[source])->value;
            return;
        }
        r.result.value = 0xDEADBEEF;
        char text[128];
        std::snprintf(text, sizeof(text), "reads lane %d, which %s", source,
                      w.exited >> source & 1 ? "has ended or does not exist" : "its mask does not name");
        e.fault(e.thread(w.first + lane), Fault::lane_exit, r.site, 0, 0, text);
    });
}

struct VoteRequest {
    Vote mode;
    bool value;
    U32 result;
};

void complete_vote(Executor&, Warp&, Collective& c) {
    U32 ballot = 0;
    each_lane(
        c, [&](U32 l) { ballot |= static_cast<U32>(static_cast<VoteRequest*>(c.requests[l])->value) << l; });
    each_lane(c, [&](U32 l) {
        auto& r = *static_cast<VoteRequest*>(c.requests[l]);
        switch (r.mode) {
            case Vote::all:
                r.result = ballot == c.arrived;
                break;
            case Vote::any:
                r.result = ballot != 0;
                break;
            case Vote::uni:
                r.result = ballot == 0 || ballot == c.arrived;
                break;
            case Vote::ballot:
                r.result = ballot;
                break;
        }
    });
}

struct MatchRequest {
    U64 value;
    U32 result;  // the lanes with the same value
};

void complete_match(Executor&, Warp&, Collective& c) {
    each_lane(c, [&](U32 l) {
        auto& r = *static_cast<MatchRequest*>(c.requests[l]);
        r.result = 0;
        each_lane(c, [&](U32 k) {
            r.result |= static_cast<U32>(static_cast<MatchRequest*>(c.requests[k])->value == r.value) << k;
        });
    });
}

struct ReduceRequest {
    Reduce operation;
    bool is_signed;
    U32 value, result;
};

void complete_reduce(Executor&, Warp&, Collective& c) {
    U32 result = 0;
    bool first = true;
    each_lane(c, [&](U32 l) {
        const auto& r = *static_cast<ReduceRequest*>(c.requests[l]);
        const auto less = [&](U32 a, U32 b) {
            return r.is_signed ? static_cast<S32>(a) < static_cast<S32>(b) : a < b;
        };
        if (first) {
            result = r.value;
            first = false;
            return;
        }
        switch (r.operation) {
            case Reduce::add:
                result += r.value;
                break;
            case Reduce::min:
                result = less(r.value, result) ? r.value : result;
                break;
            case Reduce::max:
                result = less(result, r.value) ? r.value : result;
                break;
            case Reduce::and_:
                result &= r.value;
                break;
            case Reduce::or_:
                result |= r.value;
                break;
            case Reduce::xor_:
                result ^= r.value;
                break;
        }
    });
    each_lane(c, [&](U32 l) { static_cast<ReduceRequest*>(c.requests[l])->result = result; });
}

void complete_elect(Executor&, Warp&, Collective& c) {
    each_lane(c,
              [&](U32 l) { *static_cast<U32*>(c.requests[l]) = static_cast<U32>(__builtin_ctz(c.arrived)); });
}

void complete_sync(Executor& e, Warp& w, Collective& c) {
    e.order_lanes(w, c.arrived);
}

}  // namespace

ShuffleResult shfl_sync(Thread& t, Shuffle mode, U32 value, U32 b, U32 c, U32 mask, U32 site) {
    ShuffleRequest request{mode, value, b, c, site, {}};
    Executor::of(t).meet(state(t), mask, Meeting::shuffle, &request, complete_shuffle, site);
    return request.result;
}

U32 vote_sync(Thread& t, Vote mode, bool value, U32 mask, U32 site) {
    VoteRequest request{mode, value, 0};
    Executor::of(t).meet(state(t), mask, Meeting::vote, &request, complete_vote, site);
    return request.result;
}

U32 match_any_sync(Thread& t, U64 value, U32 mask, U32 site) {
    MatchRequest request{value, 0};
    Executor::of(t).meet(state(t), mask, Meeting::match, &request, complete_match, site);
    return request.result;
}

U32 match_all_sync(Thread& t, U64 value, bool& all, U32 mask, U32 site) {
    MatchRequest request{value, 0};
    Executor& e = Executor::of(t);
    const U32 alive = mask & ~e.warp(t).exited;
    e.meet(state(t), mask, Meeting::match, &request, complete_match, site);
    all = request.result == alive;
    return all ? request.result : 0;
}

U32 redux_sync(Thread& t, Reduce operation, bool is_signed, U32 value, U32 mask, U32 site) {
    ReduceRequest request{operation, is_signed, value, 0};
    Executor::of(t).meet(state(t), mask, Meeting::reduce, &request, complete_reduce, site);
    return request.result;
}

U32 elect_sync(Thread& t, bool& elected, U32 mask, U32 site) {
    U32 leader = 0;
    Executor::of(t).meet(state(t), mask, Meeting::elect, &leader, complete_elect, site);
    elected = leader == t.lane();
    return leader;
}

void bar_warp_sync(Thread& t, U32 mask, U32 site) {
    Executor::of(t).meet(state(t), mask, Meeting::warp_sync, nullptr, complete_sync, site);
}

// On hardware the active lanes depend on how it lets lanes converge. Here the lanes that reach the instruction wait until
// no other lane can run, and then count as one converged group.
U32 activemask(Thread& thread) {
    ThreadState& t = state(thread);
    Executor& e = Executor::of(t);
    e.warp(t).converging = true;
    e.wait(t, "activemask", ~0u, ~0u);
    return t.result;
}

bool Executor::release_converging() {
    bool any = false;
    for (Warp& w : warps_) {
        if (!w.converging) {
            continue;
        }
        w.converging = false;
        U32 mask = 0;
        for (U32 l = 0; l < 32 && w.first + l < thread_count_; ++l) {
            const ThreadState& t = threads_[w.first + l];
            if (t.state == State::waiting && t.wait_site == ~0u) {
                mask |= 1u << l;
            }
        }
        for (U32 l = 0; l < 32; ++l) {
            if (mask >> l & 1) {
                threads_[w.first + l].result = mask;
            }
        }
        release_lanes(w, mask);
        any = any || mask != 0;
    }
    return any;
}

}  // namespace vgpu::device
