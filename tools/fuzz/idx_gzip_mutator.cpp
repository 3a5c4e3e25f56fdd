// Mutates the content of a gzip file, and packs it again: mutated blindly, nearly all inputs end at the checksum.

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
    if (seed % 4 == 0) return LLVMFuzzerMutate(data, size, max_size);
    constexpr std::size_t room = 16384;
    std::vector<std::uint8_t> content(room);
    z_stream in = {};
    if (inflateInit2(&in, 16 + MAX_WBITS) != Z_OK) return size;
    in.next_in = data;
    in.avail_in = static_cast<uInt>(size);
    in.next_out = content.data();
    in.avail_out = room;
    inflate(&in, Z_FINISH);
    const std::size_t unpacked = in.total_out;
    inflateEnd(&in);

    const std::size_t mutated = LLVMFuzzerMutate(content.data(), unpacked, room);
    z_stream out = {};
    const int level = static_cast<int>(seed / 4 % 3) * 3;  // stored, fast, ordinary
    if (deflateInit2(&out, level, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) return size;
    std::vector<std::uint8_t> packed(deflateBound(&out, static_cast<uLong>(mutated)));
    out.next_in = content.data();
    out.avail_in = static_cast<uInt>(mutated);
    out.next_out = packed.data();
    out.avail_out = static_cast<uInt>(packed.size());
    deflate(&out, Z_FINISH);
    const std::size_t result = std::min<std::size_t>(out.total_out, max_size);
    deflateEnd(&out);
    std::memcpy(data, packed.data(), result);
    return result;
}
