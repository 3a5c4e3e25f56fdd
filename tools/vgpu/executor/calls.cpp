// Functions that device code may call: printf, assert, malloc; and the clocks.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "tools/vgpu/device/memory.h"
#include "tools/vgpu/executor/executor.h"
#include "tools/vgpu/memory.h"

namespace vgpu::device {
namespace {

std::string string_at(Thread& t, U64 address, U32 site) {
    std::string result;
    for (U64 k = 0; result.size() < 4096; ++k) {
        const char c = static_cast<char>(*read_pointer<Space::generic, 1>(t, address + k, site, false));
        if (c == '\0') {
            break;
        }
        result += c;
    }
    return result;
}

}  // namespace

// The arguments lie one after another, each aligned to its size.
void vprintf_(Thread& t, unsigned char* result, unsigned char* const* arguments, U32 site) {
    const std::string format = string_at(t, ld_bytes<U64>(arguments[0]), site);
    const U64 values = ld_bytes<U64>(arguments[1]);
    U64 offset = 0;
    const auto take = [&](auto value) {
        offset = (offset + sizeof(value) - 1) / sizeof(value) * sizeof(value);
        std::memcpy(&value, read_pointer<Space::generic, sizeof(value)>(t, values + offset, site, false),
                    sizeof(value));
        offset += sizeof(value);
        return value;
    };
    std::string out;
    int count = 0;
    char text[512];
    for (std::size_t i = 0; i < format.size(); ++i) {
        if (format[i] != '%') {
            out += format[i];
            continue;
        }
        if (i + 1 < format.size() && format[i + 1] == '%') {
            out += '%';
            ++i;
            continue;
        }
        std::string spec = "%";
        bool wide = false;
        for (++i; i < format.size(); ++i) {
            const char c = format[i];
            if (c == '*') {
                spec += std::to_string(take(S32{}));
            } else if (c == 'l' || c == 'z' || c == 'j' || c == 't') {
                wide = true;
            } else if (c == 'h') {
                continue;
            } else if (std::strchr("-+ #0.123456789", c) != nullptr) {
                spec += c;
            } else {
                break;
            }
        }
        const char kind = i < format.size() ? format[i] : '%';
        ++count;
        if (std::strchr("aAeEfFgG", kind) != nullptr) {
            std::snprintf(text, sizeof(text), (spec + kind).c_str(), take(F64{}));
        } else if (kind == 's') {
            std::snprintf(text, sizeof(text), (spec + kind).c_str(), string_at(t, take(U64{}), site).c_str());
        } else if (kind == 'p') {
            std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(take(U64{})));
        } else if (kind == 'c') {
            std::snprintf(text, sizeof(text), (spec + kind).c_str(), take(S32{}));
        } else if (wide) {
            std::snprintf(text, sizeof(text), (spec + "ll" + kind).c_str(),
                          static_cast<long long>(take(S64{})));
        } else {
            std::snprintf(text, sizeof(text), (spec + kind).c_str(), take(S32{}));
        }
        out += text;
    }
    std::fwrite(out.data(), 1, out.size(), stdout);
    if (result != nullptr) {
        st_bytes<S32>(result, count);
    }
}

void assertfail(Thread& thread, unsigned char* const* arguments, U32 site) {
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    // abort() does not return: no string may be alive by then.
    const auto describe = [&] {
        const std::string message = string_at(t, ld_bytes<U64>(arguments[0]), site);
        const std::string file = string_at(t, ld_bytes<U64>(arguments[1]), site);
        const U32 line = ld_bytes<U32>(arguments[2]);
        const std::string function = string_at(t, ld_bytes<U64>(arguments[3]), site);
        e.fault(
            t, Fault::unknown, site, 0, 0,
            "assertion `" + message + "` failed at " + file + ":" + std::to_string(line) + " in " + function);
    };
    describe();
    e.abort();
}

// The device heap belongs to the host half, which offers none to kernels: as on a device whose heap is full.
U64 device_malloc(Thread&, U64, U32) {
    return 0;
}
void device_free(Thread& thread, U64 address, U32 site) {
    if (address == 0) {
        return;
    }
    auto& t = static_cast<ThreadState&>(thread);
    Executor& e = Executor::of(t);
    e.fault(t, Fault::out_of_bounds, site, address, 0, "frees memory that malloc did not return");
    e.abort();
}

U64 clock64(Thread& t) {
    return Executor::of(t).steps += 16;
}
U64 globaltimer(Thread&) {
    return static_cast<U64>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                std::chrono::system_clock::now().time_since_epoch())
                                .count());
}
U32 nsmid() {
    return static_cast<U32>(profile().multiprocessors);
}
U32 smid(Thread& t) {
    const Block& b = *t.block;
    return (b.index[0] + b.grid_size[0] * (b.index[1] + b.grid_size[1] * b.index[2])) % nsmid();
}

}  // namespace vgpu::device
