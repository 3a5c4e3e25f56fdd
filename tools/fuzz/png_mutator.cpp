// Mutates a PNG and repairs the checksums of its chunks: mutated blindly, nearly all inputs end there.

#include <zlib.h>

#include <cstdint>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 == 0) return size;
    // 8 bytes of signature; each chunk is its length, type, content and checksum.
    for (std::size_t at = 8; at + 12 <= size;) {
        const std::uint8_t* head = data + at;
        const std::uint64_t length = std::uint64_t{head[0]} << 24 | std::uint64_t{head[1]} << 16 |
                                     std::uint64_t{head[2]} << 8 | std::uint64_t{head[3]};
        if (length > size - at - 12) break;
        const uLong sum = crc32(crc32(0, nullptr, 0), head + 4, static_cast<uInt>(length + 4));
        for (std::size_t i = 0; i < 4; ++i)
            data[at + 8 + length + i] = static_cast<std::uint8_t>(sum >> (24 - 8 * i) & 0xff);
        at += 12 + length;
    }
    return size;
}
