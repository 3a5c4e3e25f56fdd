// IDX files, not compressed: images, and labels if there are any. The first two bytes are the length of the labels'
// file, which follows; the rest is the images'.

#include "diffusion/data/idx.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

namespace {

void append_number(std::string& to, std::int64_t number) {
    for (int shift = 24; shift >= 0; shift -= 8) to += static_cast<char>(number >> shift & 0xff);
}

}  // namespace

ITO_FUZZ_TARGET(idx) {
    static const testing::TemporaryFolder folder;
    const std::size_t high = fuzz::take_byte(input), length = high << 8 | fuzz::take_byte(input);
    const std::string_view labels = fuzz::text_of(fuzz::take(input, length)), images = fuzz::text_of(input);
    const std::string_view gzip = "\x1f\x8b";
    if (labels.starts_with(gzip) || images.starts_with(gzip)) return;  // idx_gzip's
    diffusion::Dataset data;
    const auto labels_path = labels.empty() ? std::filesystem::path() : folder.write("labels", labels);
    const auto images_path = folder.write("images", images);
    if (!fuzz::accepts([&] { data = diffusion::load_idx(images_path, labels_path); })) return;

    std::string again;
    for (const std::int64_t number : {std::int64_t{0x803}, data.count, data.height, data.width})
        append_number(again, number);
    again.append(data.images.begin(), data.images.end());
    fuzz::expect(again == images && data.channels == 1, "the images are not those of the file");
    if (labels.empty()) return;
    again.clear();
    for (const std::int64_t number : {std::int64_t{0x801}, data.count}) append_number(again, number);
    again.append(data.labels.begin(), data.labels.end());
    fuzz::expect(again == labels, "the labels are not those of the file");
}
