#pragma once
// Short labels inside pictures: a font of 5 x 7 dots, for digits, small letters and "=-_".

#include <cstdint>
#include <string_view>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// The width of `text` in pixels. '_' has no width: it makes the next character an index, half a line lower ("x_t") and from
/// scale 2 on smaller. '^' puts a hat on the next letter ("^x_0"), which must have no stem. A character that the font lacks is a
/// gap.
std::int64_t text_width(std::string_view text, std::int64_t scale = 1);
/// From the top of tall letters to the foot of those that go below the line.
constexpr std::int64_t text_height(std::int64_t scale = 1) {
    return 12 * scale;
}

/// Draws in gray level `ink`, with the top left corner there (a hat is one dot higher). What is outside the image is cut off.
/// Larger scales have smooth edges.
void draw_text(Image& image, std::string_view text, std::int64_t top, std::int64_t left,
               std::int64_t scale = 1, std::uint8_t ink = 0);

}  // namespace ito::diffusion
