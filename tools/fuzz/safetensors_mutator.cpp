// Mutates a safetensors file's header and its tensors each on their own, so that the length before the header stays
// true: mutated blindly, nearly all inputs end at that check.

#include <algorithm>
#include <cstdint>
#include <cstring>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    std::uint64_t header = 0;
    if (size >= 8) std::memcpy(&header, data, 8);
    if (seed % 8 == 0 || size < 8 || header > size - 8 || max_size < size + 8)
        return LLVMFuzzerMutate(data, size, max_size);
    std::uint8_t* const begin = data + 8;
    const std::size_t buffer = size - 8 - header;
    if (seed % 8 == 1) return 8 + header + LLVMFuzzerMutate(begin + header, buffer, max_size - 8 - header);

    // The tensors move aside to the end, the header may grow up to them, and they come back.
    std::uint8_t* const aside = data + max_size - buffer;
    std::memmove(aside, begin + header, buffer);
    header = LLVMFuzzerMutate(begin, header, max_size - 8 - buffer);
    std::memmove(begin + header, aside, buffer);
    std::memcpy(data, &header, 8);
    return 8 + header + buffer;
}
