// The slow paths of global, local and parameter accesses.
#include "tools/vgpu/memory.h"

#include "tools/vgpu/device/memory.h"
#include "tools/vgpu/executor/counters.h"
#include "tools/vgpu/executor/executor.h"

namespace vgpu::device {

View& find_view(Thread& thread, U64 address, U32 size, U32 site, Access access) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    const Allocation* a = find_allocation(address);
    // abort() does not return: no string may be alive by then.
    const auto fail = [&](Fault kind, const char* where) {
        const char* verb = access == Access::read    ? "reads "
                           : access == Access::write ? "writes "
                                                     : "updates ";
        e.fault(t, kind, site, address, size,
                verb + std::to_string(size) + " bytes " + where + describe_address(address));
    };
    if (a == nullptr || !a->contains(address, size)) {
        fail(Fault::out_of_bounds, "");
        e.abort();
    }
    if ((address & (size - 1)) != 0) {
        fail(Fault::misaligned, "at an address that is not a multiple of that: ");
        e.abort();
    }
    if (access != Access::read && a->kind == MemoryKind::constant) {
        fail(Fault::out_of_bounds, "of constant memory: ");
        e.abort();
    }
    View& view = t.block->views[site];
    view.address = a->address;
    view.size = a->size;
    view.alias = reinterpret_cast<unsigned char*>(a->alias);
    view.initialised = a->initialised;
    view.written_by = a->written_by;
    view.read_by = a->read_by;
    view.allocation = a;
    view.operation = 0;
    return view;
}

void global_uninitialised(Thread& thread, View&, U64 address, U32 size, U32 site) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor::of(t).fault(
        t, Fault::uninitialised, site, address, size,
        "reads " + std::to_string(size) + " bytes that were never written: " + describe_address(address));
}

// One word, or pinned memory.
void global_ordering(View& view, U64 address, U32 size, bool write, U32 now) {
    if (view.written_by == nullptr) {
        note_access(*view.allocation, address, size, write);
        return;
    }
    const U64 word = address / 4 - view.address / 4;
    const U32 writer = view.written_by[word];
    const U32 reader = view.read_by[word];
    if (view.operation != now) {
        view.operation = now;
        view.read_writer = view.read_reader = view.write_writer = view.write_reader =
            now;  // no word has both
    }
    vgpu::detail::note_access_slowly(*view.allocation, word, address, write);
    if (write) {
        view.write_writer = writer;
        view.write_reader = reader;
    } else {
        view.read_writer = writer;
        view.read_reader = reader;
        view.read_next = view.read_by[word];
    }
}

void count_global(Thread& t, U64 address, U32 size, U32 site, bool write) {
    Executor& e = Executor::of(t);
    e.counters().global(e, t, address, size, site, write);
}
void count_shared(Thread& t, U32 address, U32 size, U32 site, bool) {
    Executor& e = Executor::of(t);
    e.counters().shared(e, t, address, size, site);
}

unsigned char* local_pointer(Thread& thread, U64 address, U32 size, U32 site) {
    auto* p = reinterpret_cast<unsigned char*>(address);
    for (const LocalFrame* f = thread.frames; f != nullptr; f = f->next) {
        const U64 offset = address - reinterpret_cast<U64>(f->memory);
        if (offset < f->bytes && f->bytes - offset >= size) {
            if ((address & (size - 1)) == 0) {
                return p;
            }
            auto& t = static_cast<ThreadState&>(thread);
            Executor& e = Executor::of(t);
            e.fault(t, Fault::misaligned, site, offset, size,
                    "accesses " + std::to_string(size) + " bytes at offset " + std::to_string(offset) +
                        " of its local memory, which is not a multiple of the size");
            e.abort();
        }
    }
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    const U64 base = thread.frames != nullptr ? reinterpret_cast<U64>(thread.frames->memory) : 0;
    e.fault(t, Fault::out_of_bounds, site, address, size,
            "accesses " + std::to_string(size) + " bytes of local memory at offset " +
                std::to_string(static_cast<S64>(address - base)) + "; the function has " +
                std::to_string(thread.frames != nullptr ? thread.frames->bytes : 0) + " bytes");
    e.abort();
}

const unsigned char* param_pointer(Thread& thread, U64 address, U32 size, U32 site) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    const U64 offset = address - reinterpret_cast<U64>(t.params);
    if (offset < e.kernel()->param_bytes && e.kernel()->param_bytes - offset >= size) {
        return t.params + offset;
    }
    e.fault(t, Fault::out_of_bounds, site, offset, size,
            "reads " + std::to_string(size) + " bytes at offset " + std::to_string(static_cast<S64>(offset)) +
                " of the kernel's parameters, which have " + std::to_string(e.kernel()->param_bytes) +
                " bytes");
    e.abort();
}

}  // namespace vgpu::device
