// cp.async. A copy takes effect as late as the rules allow: when its thread waits for it. Until then its target is marked,
// so that whoever reads it too early is found even if the data would happen to be there.
#include <algorithm>
#include <cstring>

#include "tools/vgpu/device/memory.h"
#include "tools/vgpu/executor/executor.h"

namespace vgpu::device {
namespace {

template <int N>
void issue(ThreadState& t, U32 shared, U64 global, U32 from_source, U32 site) {
    AsyncCopies::Copy copy{shared, N, {}};
    if (from_source >= N) {
        std::memcpy(copy.bytes, global_pointer<N>(t, global, site, Access::read), N);
    } else {
        for (U32 k = 0; k < from_source; ++k) {
            copy.bytes[k] = *global_pointer<1>(t, global + k, site, Access::read);
        }
    }
    shared_for_write<N>(t, shared, site, nullptr, t.identity | identity_async);
    t.async->copies.push_back(copy);
}

// Completes the oldest `count` copies.
void complete(ThreadState& t, std::size_t count) {
    AsyncCopies& a = *t.async;
    Block& b = *t.block;
    for (std::size_t k = 0; k < count; ++k) {
        const AsyncCopies::Copy& copy = a.copies[k];
        std::memcpy(b.shared + copy.address, copy.bytes, copy.size);
        for (U32 i = copy.address; i < copy.address + copy.size; ++i) {
            b.shadow.writer[i] = t.identity;
        }
    }
    a.copies.erase(a.copies.begin(), a.copies.begin() + static_cast<std::ptrdiff_t>(count));
}

}  // namespace

void cp_async(Thread& thread, U32 shared, U64 global, U32 bytes, U32 from_source, U32 site) {
    auto& t = static_cast<ThreadState&>(thread);
    if (t.async == nullptr) {
        t.async = std::make_unique<AsyncCopies>();
    }
    if (bytes == 16) {
        issue<16>(t, shared, global, from_source, site);
    } else if (bytes == 8) {
        issue<8>(t, shared, global, from_source, site);
    } else {
        issue<4>(t, shared, global, from_source, site);
    }
}

void cp_async_commit(Thread& thread) {
    auto& t = static_cast<ThreadState&>(thread);
    if (t.async == nullptr) {
        t.async = std::make_unique<AsyncCopies>();
    }
    t.async->group_ends.push_back(t.async->copies.size());
}

void cp_async_wait_group(Thread& thread, U32 pending) {
    auto& t = static_cast<ThreadState&>(thread);
    if (t.async == nullptr || t.async->group_ends.size() <= pending) {
        return;
    }
    std::vector<std::size_t>& ends = t.async->group_ends;
    const std::size_t groups = ends.size() - pending;
    const std::size_t count = ends[groups - 1];
    complete(t, count);
    ends.erase(ends.begin(), ends.begin() + static_cast<std::ptrdiff_t>(groups));
    for (std::size_t& end : ends) {
        end -= count;
    }
}

void cp_async_wait_all(Thread& thread) {
    auto& t = static_cast<ThreadState&>(thread);
    if (t.async != nullptr) {
        complete(t, t.async->copies.size());
        t.async->group_ends.clear();
    }
}

}  // namespace vgpu::device
