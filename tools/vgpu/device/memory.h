// Loads, stores and atomics with their checks. The fast paths are here; whatever is unusual goes out of line to
// executor/memory.cpp.
#pragma once

#include "tools/vgpu/device/floating.h"
#include "tools/vgpu/device/integer.h"
#include "tools/vgpu/device/thread.h"

namespace vgpu::device {

enum class Access { read, write, atomic };

template <class T, int N>
struct Vector {
    T x[N];
};

// Out of line. They return where the bytes are, or do not return.
View& find_view(Thread& thread, U64 address, U32 size, U32 site, Access access);
void global_uninitialised(Thread& thread, View& view, U64 address, U32 size, U32 site);
void global_ordering(View& view, U64 address, U32 size, bool write, U32 now);
void count_global(Thread& thread, U64 address, U32 size, U32 site, bool write);
[[noreturn]] void shared_fault(Thread& thread, U32 address, U32 size, U32 site, Access access);
void shared_read_conflict(Thread& thread, U32 address, U32 size, U32 site, bool atomic);
void shared_second_reader(Thread& thread, U32 address, U32 size);
void shared_write_conflict(Thread& thread, U32 address, U32 size, U32 site, const void* value, bool atomic);
void count_shared(Thread& thread, U32 address, U32 size, U32 site, bool write);
unsigned char* local_pointer(Thread& thread, U64 address, U32 size, U32 site);
const unsigned char* param_pointer(Thread& thread, U64 address, U32 size, U32 site);

void yield(Thread& thread);
inline void note_polling(Thread& t) {
    if (++t.spins > 64) [[unlikely]] {
        t.spins = 0;
        yield(t);
    }
}

template <int N>
inline bool all_initialised(const unsigned char* flags) {
    if constexpr (N == 16) {
        U64 a[2];
        __builtin_memcpy(a, flags, 16);
        return (a[0] & a[1] & 0x0101010101010101) == 0x0101010101010101;
    } else {
        typename BitsOf<N>::type a;
        __builtin_memcpy(&a, flags, N);
        return a == static_cast<decltype(a)>(0x0101010101010101);
    }
}
template <int N>
inline unsigned char* global_pointer(Thread& t, U64 address, U32 site, Access access) {
    View* view = &t.block->views[site];
    U64 offset = address - view->address;
    if (offset >= view->size || view->size - offset < N || (address & (N - 1)) != 0) [[unlikely]] {
        view = &find_view(t, address, N, site, access);
        offset = address - view->address;
    }
    if (view->initialised != nullptr) {
        if (access != Access::write) {
            if (!all_initialised<N>(view->initialised + offset)) [[unlikely]] {
                global_uninitialised(t, *view, address, N, site);
            }
        }
        if (access != Access::read) {
            __builtin_memset(view->initialised + offset, 1, N);
        }
    }
    const U32 now = t.block->operation;
    if (view->written_by == nullptr) {
        if (access != Access::read) {
            global_ordering(*view, address, N, true, now);
        }
    } else if (now != 0) {
        const U64 word = address / 4 - view->address / 4;
        for (U64 w = word; w < word + (N + 3) / 4; ++w) {
            U32& writer = view->written_by[w];
            U32& reader = view->read_by[w];
            if (access == Access::read) {
                if (writer == now || reader == now) {
                    continue;
                }
                if (writer == view->read_writer && reader == view->read_reader && view->operation == now) {
                    reader = view->read_next;
                    continue;
                }
            } else {
                if (writer == now && reader == 0) {
                    continue;
                }
                if (writer == view->write_writer && reader == view->write_reader && view->operation == now) {
                    writer = now;
                    reader = 0;
                    continue;
                }
            }
            global_ordering(*view, address / 4 * 4 + (w - word) * 4, 4, access != Access::read, now);
        }
    }
    if (t.block->counting) [[unlikely]] {
        count_global(t, address, N, site, access != Access::read);
    }
    return view->alias + offset;
}

template <int N>
inline unsigned char* shared_check(Thread& t, U32 address, U32 site, Access access) {
    Block& b = *t.block;
    if (address >= b.shared_size || b.shared_size - address < N || (address & (N - 1)) != 0) [[unlikely]] {
        shared_fault(t, address, N, site, access);
    }
    if (b.counting) [[unlikely]] {
        count_shared(t, address, N, site, access != Access::read);
    }
    return b.shared + address;
}
template <int N>
inline unsigned char* shared_for_read(Thread& t, U32 address, U32 site, bool atomic = false) {
    unsigned char* p = shared_check<N>(t, address, site, Access::read);
    const Block& b = *t.block;
    const U32 me = t.identity;
    const U32 span = b.epoch_first - b.block_first;
    const U32* writer = b.shadow.writer + address;
    U32* reader = b.shadow.reader + address;
    U32 unusual = 0;
    U32 second = 0;
    for (int i = 0; i < N; ++i) {
        unusual |= static_cast<U32>(writer[i] - b.block_first >= span) & static_cast<U32>(writer[i] != me);
        second |= static_cast<U32>(reader[i] >= b.epoch_first) & static_cast<U32>(reader[i] != me);
    }
    if (unusual != 0) [[unlikely]] {
        shared_read_conflict(t, address, N, site, atomic);
    }
    if (second != 0) {
        shared_second_reader(t, address, N);
    }
    const U32 mark = atomic ? me | identity_atomic : me;
    for (int i = 0; i < N; ++i) {
        reader[i] = mark;
    }
    return p;
}
template <int N>
inline unsigned char* shared_for_write(Thread& t, U32 address, U32 site, const void* value, U32 mark) {
    unsigned char* p = shared_check<N>(t, address, site, Access::write);
    const Block& b = *t.block;
    const U32 me = t.identity;
    U32* writer = b.shadow.writer + address;
    const U32* reader = b.shadow.reader + address;
    const U32* other = b.shadow.other_reader + address;
    U32 unusual = 0;
    for (int i = 0; i < N; ++i) {
        unusual |= static_cast<U32>(writer[i] >= b.epoch_first) & static_cast<U32>(writer[i] != me);
        unusual |= static_cast<U32>(reader[i] >= b.epoch_first) & static_cast<U32>(reader[i] != me);
        unusual |= static_cast<U32>(other[i] >= b.epoch_first) & static_cast<U32>(other[i] != me);
    }
    if (unusual != 0) [[unlikely]] {
        shared_write_conflict(t, address, N, site, value, (mark & identity_atomic) != 0);
    }
    for (int i = 0; i < N; ++i) {
        writer[i] = mark;
    }
    return p;
}

// --- state spaces: pointers for reading, and stores ---------------------------------------------------------------
enum class Space { global, shared, local, param, generic };

template <Space S, int N>
inline const unsigned char* read_pointer(Thread& t, U64 address, U32 site, bool atomic) {
    if constexpr (S == Space::global) {
        return global_pointer<N>(t, address, site, Access::read);
    } else if constexpr (S == Space::shared) {
        return shared_for_read<N>(t, static_cast<U32>(address), site, atomic);
    } else if constexpr (S == Space::local) {
        return local_pointer(t, address, N, site);
    } else if constexpr (S == Space::param) {
        return param_pointer(t, address, N, site);
    } else {
        switch (address & space_mask) {
            case space_shared:
                return read_pointer<Space::shared, N>(t, address, site, atomic);
            case space_local:
                return read_pointer<Space::local, N>(t, address & ~space_mask, site, atomic);
            case space_param:
                return read_pointer<Space::param, N>(t, address & ~space_mask, site, atomic);
            default:
                return read_pointer<Space::global, N>(t, address, site, atomic);
        }
    }
}
template <Space S, int N>
inline unsigned char* write_pointer(Thread& t, U64 address, U32 site, const void* value, bool atomic) {
    if constexpr (S == Space::global) {
        return global_pointer<N>(t, address, site, Access::write);
    } else if constexpr (S == Space::shared) {
        return shared_for_write<N>(t, static_cast<U32>(address), site, value,
                                   atomic ? t.identity | identity_atomic : t.identity);
    } else if constexpr (S == Space::local) {
        return local_pointer(t, address, N, site);
    } else {
        switch (address & space_mask) {
            case space_shared:
                return write_pointer<Space::shared, N>(t, address, site, value, atomic);
            case space_local:
                return write_pointer<Space::local, N>(t, address & ~space_mask, site, value, atomic);
            default:
                return write_pointer<Space::global, N>(t, address, site, value, atomic);
        }
    }
}

// `Strong` accesses (volatile, relaxed, acquire, release) do not race with each other or with atomics.
template <Space S, class T, bool Strong = false>
inline T ld(Thread& t, U64 address, U32 site) {
    T value;
    if constexpr (Strong) {
        note_polling(t);
    }
    __builtin_memcpy(&value, read_pointer<S, sizeof(T)>(t, address, site, Strong), sizeof(T));
    return value;
}
template <Space S, class T, bool Strong = false>
inline void st(Thread& t, U64 address, U32 site, T value) {
    __builtin_memcpy(write_pointer<S, sizeof(T)>(t, address, site, &value, Strong), &value, sizeof(T));
}
// Parameters at a known offset need no check.
template <class T>
inline T ld_bytes(const unsigned char* from) {
    T value;
    __builtin_memcpy(&value, from, sizeof(T));
    return value;
}
template <class T>
inline void st_bytes(unsigned char* to, T value) {
    __builtin_memcpy(to, &value, sizeof(T));
}

// --- atomics -------------------------------------------------------------------------------------------------------
enum class Atomic { add, min, max, and_, or_, xor_, exch, inc, dec, cas };

template <class T, Atomic O>
inline V<T> combine(V<T> old, V<T> value, V<T> desired) {
    if constexpr (O == Atomic::exch) {
        return value;
    } else if constexpr (O == Atomic::cas) {
        return old == value ? desired : old;
    } else if constexpr (is_floating<T> || is_half<T> || is_half2<T>) {
        return O == Atomic::add   ? fadd<T>(old, value)
               : O == Atomic::min ? fmin_<T>(old, value)
                                  : fmax_<T>(old, value);
    } else if constexpr (O == Atomic::add) {
        return iadd<T>(old, value);
    } else if constexpr (O == Atomic::min) {
        return imin<T>(old, value);
    } else if constexpr (O == Atomic::max) {
        return imax<T>(old, value);
    } else if constexpr (O == Atomic::and_) {
        return old & value;
    } else if constexpr (O == Atomic::or_) {
        return old | value;
    } else if constexpr (O == Atomic::xor_) {
        return old ^ value;
    } else if constexpr (O == Atomic::inc) {
        return old >= value ? T{0} : old + 1;
    } else {
        return old == 0 || old > value ? value : old - 1;
    }
}
template <Space S, class T, Atomic O>
inline V<T> atom(Thread& t, U64 address, U32 site, V<T> value, V<T> desired = V<T>{}) {
    constexpr int N = sizeof(V<T>);
    note_polling(t);
    V<T> old;
    unsigned char* p;
    if constexpr (S == Space::generic) {
        if ((address & space_mask) == space_shared) {
            return atom<Space::shared, T, O>(t, address & ~space_mask, site, value, desired);
        }
        if ((address & space_mask) == space_local) {
            p = local_pointer(t, address & ~space_mask, N, site);
        } else {
            p = global_pointer<N>(t, address, site, Access::atomic);
        }
        __builtin_memcpy(&old, p, N);
    } else if constexpr (S == Space::shared) {
        __builtin_memcpy(&old, shared_for_read<N>(t, static_cast<U32>(address), site, true), N);
        const V<T> next = combine<T, O>(old, value, desired);
        __builtin_memcpy(
            shared_for_write<N>(t, static_cast<U32>(address), site, &next, t.identity | identity_atomic),
            &next, N);
        return old;
    } else {
        p = global_pointer<N>(t, address, site, Access::atomic);
        __builtin_memcpy(&old, p, N);
    }
    const V<T> next = combine<T, O>(old, value, desired);
    __builtin_memcpy(p, &next, N);
    return old;
}

inline bool is_space(U64 address, U64 space) {
    return (address & space_mask) == space;
}

}  // namespace vgpu::device
