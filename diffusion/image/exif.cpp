#include "diffusion/image/exif.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/error.h"

namespace ito::diffusion {
namespace {

/// Numbers of a TIFF structure; 0 beyond its end.
class Tiff {
  public:
    explicit Tiff(std::span<const std::byte> bytes) : bytes_(bytes) {
        big_endian_ = bytes.size() >= 2 && bytes[0] == std::byte{'M'};
    }

    bool valid() const {
        return bytes_.size() >= 8 && bytes_[0] == bytes_[1] && (big_endian_ || bytes_[0] == std::byte{'I'}) &&
               number(2, 2) == 42;
    }

    std::size_t number(std::size_t at, std::size_t size) const {
        if (at > bytes_.size() || size > bytes_.size() - at) return 0;
        std::size_t value = 0;
        for (std::size_t i = 0; i < size; ++i)
            value = value << 8 | std::to_integer<std::size_t>(bytes_[at + (big_endian_ ? i : size - 1 - i)]);
        return value;
    }

  private:
    std::span<const std::byte> bytes_;
    bool big_endian_ = false;
};

}  // namespace

int exif_orientation(std::span<const std::byte> block) {
    constexpr char name[] = {'E', 'x', 'i', 'f', 0, 0};
    constexpr std::size_t tag = 0x0112, short_type = 3, long_type = 4, entry_size = 12;
    constexpr int upright = 1;
    if (block.size() >= sizeof name && std::memcmp(block.data(), name, sizeof name) == 0)
        block = block.subspan(sizeof name);
    const Tiff tiff(block);
    if (!tiff.valid()) return upright;
    const std::size_t directory = tiff.number(4, 4), entries = tiff.number(directory, 2);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t entry = directory + 2 + i * entry_size;
        if (tiff.number(entry, 2) != tag) continue;
        // The standard says short; some writers store a long.
        const std::size_t type = tiff.number(entry + 2, 2);
        if (type != short_type && type != long_type) continue;
        const std::size_t value = tiff.number(entry + 8, type == short_type ? 2 : 4);
        return value >= 1 && value <= 8 ? static_cast<int>(value) : upright;
    }
    return upright;
}

Image upright(Image image, int orientation) {
    require(orientation >= 1 && orientation <= 8, "image: orientation {}, expected 1 to 8", orientation);
    if (orientation == 1) return image;
    // Each value says where the first stored row and column are in the upright image; 5 to 8 store columns as rows.
    const bool transposed = orientation >= 5;
    const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    Image turned{
        transposed ? image.width : image.height, transposed ? image.height : image.width, image.channels, {}};
    turned.pixels.resize(image.pixels.size());
    std::uint8_t* to = turned.pixels.data();
    for (std::int64_t y = 0; y < turned.height; ++y)
        for (std::int64_t x = 0; x < turned.width; ++x) {
            const std::int64_t row = transposed ? x : y, column = transposed ? y : x;
            const std::int64_t stored_row = from_bottom ? image.height - 1 - row : row,
                               stored_column = from_right ? image.width - 1 - column : column;
            to =
                std::copy_n(image.pixels.data() + (stored_row * image.width + stored_column) * image.channels,
                            image.channels, to);
        }
    return turned;
}

}  // namespace ito::diffusion
