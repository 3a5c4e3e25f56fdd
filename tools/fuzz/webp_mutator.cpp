// Mutates a WebP and repairs the length of the file in its header, and that of the pixels if they are all that it holds:
// mutated blindly, an input that got shorter ends there.

#include <cstdint>
#include <cstring>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

void put(std::uint8_t* to, std::size_t value) {
    for (int i = 0; i < 4; ++i) to[i] = static_cast<std::uint8_t>(value >> 8 * i);
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    size = LLVMFuzzerMutate(data, size, max_size);
    constexpr std::size_t file_header = 12, chunk_header = 8;
    if (seed % 8 == 0 || size < file_header + chunk_header) return size;
    size -= size % 2;  // chunks are padded
    put(data + 4, size - 8);
    if (std::memcmp(data + file_header, "VP8 ", 4) == 0 || std::memcmp(data + file_header, "VP8L", 4) == 0)
        put(data + file_header + 4, size - file_header - chunk_header);
    return size;
}
