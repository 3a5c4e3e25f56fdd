#pragma once
// What the kernels of the variant `mma` have in common: strips of a map, and the patch of an image under the taps of a 3x3 filter
// in shared memory, 32 channels of it.

namespace ito::kernels::conv2d_detail {

inline constexpr int side = 3, taps = side * side;  ///< of the filter
inline constexpr int line = 8;                      ///< pixels that are half of a fragment
inline constexpr int chunk = 8, chunk_bytes = 16;   ///< elements that are copied at once
inline constexpr int patch_channels = 32, patch_pixel_bytes = 2 * patch_channels;

/// Strips are strip x strip pixels. A line is a row of one of 8x8, or of two of 4x4 abreast.
template <int strip>
struct Patch {
    static constexpr int abreast = line / strip;
    static constexpr int rows = strip + side - 1;  ///< under the strips of a line
    static constexpr int columns = abreast * rows;
    static_assert(columns % 2 == 0, "a row starts on the 128 bytes of all banks");

    /// Where a chunk of a pixel lies: row `row`, column `column` under strip number `strip_abreast` of the line. Two pixels share
    /// the 128 bytes of all banks, and their four chunks are permuted by the key: any eight pixels under a line, that is eight
    /// neighbours or twice four, differ in their parity or in the key.
    static __device__ int offset(int row, int strip_abreast, int column, int at) {
        const int key = abreast == 1 ? column / 2 % 4 : column / 2 % 2 + 2 * strip_abreast;
        return (row * columns + strip_abreast * rows + column) * patch_pixel_bytes + (at ^ key) * chunk_bytes;
    }
};

}  // namespace ito::kernels::conv2d_detail
