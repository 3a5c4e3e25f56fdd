// The PTX text inside a fat binary, as nvcc embeds it in a host object compiled with
// `-gencode arch=compute_80,code=compute_80 -no-compress`, and the number by which a translated module is found.
// The embedded text is not what `nvcc -ptx` writes: fatbinary strips comments and indentation. ptx2cpp therefore reads
// the section .nv_fatbin of the object, which objcopy takes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace vgpu {

inline constexpr std::uint32_t fatbin_magic = 0xBA55ED50;

// FNV-1a, 64 bits, of the PTX text up to its terminating zero.
inline std::uint64_t module_id(std::string_view ptx) {
    std::uint64_t hash = 0xcbf29ce484222325ull;
    for (const char c : ptx) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
    }
    return hash;
}

// The first uncompressed PTX entry of the fat binary, empty if there is none (only machine code, or compressed).
inline std::string_view fatbin_ptx(const void* fatbin) {
    const char* base = static_cast<const char*>(fatbin);
    const auto read = [](const char* p, auto value) {
        std::memcpy(&value, p, sizeof(value));
        return value;
    };
    if (read(base, std::uint32_t{}) != fatbin_magic) {
        return {};
    }
    const char* entry = base + read(base + 6, std::uint16_t{});
    const char* const end = entry + read(base + 8, std::uint64_t{});
    while (entry + 64 <= end) {
        const auto kind = read(entry, std::uint16_t{});
        const auto header = read(entry + 4, std::uint32_t{});
        const auto size = read(entry + 8, std::uint64_t{});
        const auto compressed = read(entry + 16, std::uint32_t{});
        if (kind == 1 && compressed == 0) {  // 1: PTX, 2: machine code
            const char* text = entry + header;
            const void* zero = std::memchr(text, 0, size);
            return {text, zero != nullptr ? static_cast<std::size_t>(static_cast<const char*>(zero) - text)
                                          : static_cast<std::size_t>(size)};
        }
        entry += header + size;
    }
    return {};
}

}  // namespace vgpu
