// A gzipped IDX file of images gives what it gives unpacked.

#include <zlib.h>

#include "diffusion/data/idx.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

namespace {

/// What zlib makes of the file, by another way than the reader's; false if it refuses it or it is more than 256 KiB.
bool unpack(std::string_view packed, std::string& content) {
    z_stream stream = {};
    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) return false;
    content.resize(std::size_t{1} << 18);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(content.data());
    stream.avail_out = static_cast<uInt>(content.size());
    const bool whole = inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.avail_in == 0;
    content.resize(stream.total_out);
    inflateEnd(&stream);
    return whole;
}

}  // namespace

ITO_FUZZ_TARGET(idx_gzip) {
    static const testing::TemporaryFolder folder;
    const auto packed = folder.write("packed", fuzz::text_of(input));
    diffusion::Dataset data, plain;
    const bool accepted = fuzz::accepts([&] { data = diffusion::load_idx(packed); });
    std::string content;
    if (!unpack(fuzz::text_of(input), content)) return;
    const auto unpacked = folder.write("unpacked", content);
    const bool accepted_plain = fuzz::accepts([&] { plain = diffusion::load_idx(unpacked); });
    fuzz::expect(accepted == accepted_plain, "{} gzipped, {} not", accepted ? "accepted" : "refused",
                 accepted_plain ? "accepted" : "refused");
    fuzz::expect(data.images == plain.images && data.count == plain.count && data.height == plain.height &&
                     data.width == plain.width,
                 "other images than unpacked");
}
