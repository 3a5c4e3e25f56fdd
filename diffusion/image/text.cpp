#include "diffusion/image/text.h"

#include <algorithm>
#include <array>

namespace ito::diffusion {
namespace {

constexpr std::int64_t dots_wide = 5, dots_high = 9, advance = dots_wide + 1, index_drop = 3;

/// Characters beside each other, one line per row of dots.
using Banner = std::array<std::string_view, dots_high>;

// clang-format off
constexpr Banner digits{
    " ###    #    ###   ###     #  #####   ##  #####  ###   ###             ",
    "#   #  ##   #   # #   #   ##  #      #        # #   # #   #            ",
    "#   #   #       #     #  # #  ####  #        #  #   # #   # #####      ",
    "#   #   #      #    ##  #  #      # ####    #    ###   ####       #####",
    "#   #   #     #       # #####     # #   #  #    #   #     # #####      ",
    "#   #   #    #    #   #    #  #   # #   #  #    #   #    #             ",
    " ###   ###  #####  ###     #   ###   ###   #     ###   ##              ",
    "                                                                       ",
    "                                                                       ",
};
constexpr Banner first{
    "      #               #         ##        #       #      #  #      ##        ",
    "      #               #        #          #                 #       #        ",
    " ###  ####   ###   ####  ###  ####   #### # ##   ##     ##  #  #    #   ## # ",
    "    # #   # #   # #   # #   #  #    #   # ##  #   #      #  # #     #   # # #",
    " #### #   # #     #   # #####  #    #   # #   #   #      #  ##      #   # # #",
    "#   # #   # #   # #   # #      #    #   # #   #   #      #  # #     #   # # #",
    " #### ####   ###   ####  ###   #     #### #   #  ###     #  #  #   ###  # # #",
    "                                        #             #  #                   ",
    "                                     ###               ##                    ",
};
constexpr Banner second{
    "                                     #                                       ",
    "                                     #                                       ",
    "# ##   ###  ####   #### # ##   #### ####  #   # #   # #   # #   # #   # #####",
    "##  # #   # #   # #   # ##  # #      #    #   # #   # # # #  # #  #   #    # ",
    "#   # #   # #   # #   # #      ###   #    #   # #   # # # #   #   #   #   #  ",
    "#   # #   # #   # #   # #         #  #  # #  ##  # #  # # #  # #  #   #  #   ",
    "#   #  ###  ####   #### #     ####    ##   ## #   #    # #  #   #  #### #####",
    "            #         #                                               #      ",
    "            #         #                                            ###       ",
};
// clang-format on

struct Glyphs {
    std::string_view characters;
    const Banner& banner;
};
constexpr Glyphs font[] = {{"0123456789=-", digits}, {"abcdefghijklm", first}, {"nopqrstuvwxyz", second}};

bool has_dot(char c, std::int64_t row, std::int64_t column) {
    for (const auto& [characters, banner] : font) {
        const auto at = characters.find(c);
        if (at != std::string_view::npos)
            return banner[static_cast<std::size_t>(row)][at * advance + static_cast<std::size_t>(column)] !=
                   ' ';
    }
    return false;
}

}  // namespace

std::int64_t text_width(std::string_view text, std::int64_t scale) {
    const auto places = static_cast<std::int64_t>(text.size()) - std::count(text.begin(), text.end(), '_');
    return std::max<std::int64_t>(0, places * advance - 1) * scale;
}

void draw_text(Image& image, std::string_view text, std::int64_t top, std::int64_t left, std::int64_t scale,
               std::uint8_t ink) {
    const auto dot = [&](std::int64_t y0, std::int64_t x0) {
        for (std::int64_t y = std::max<std::int64_t>(y0, 0); y < std::min(y0 + scale, image.height); ++y)
            for (std::int64_t x = std::max<std::int64_t>(x0, 0); x < std::min(x0 + scale, image.width); ++x)
                std::fill_n(image.pixels.begin() + (y * image.width + x) * image.channels, image.channels,
                            ink);
    };
    bool index = false;
    for (const char c : text) {
        if (c == '_') {
            index = true;
            continue;
        }
        for (std::int64_t row = 0; row < dots_high; ++row)
            for (std::int64_t column = 0; column < dots_wide; ++column)
                if (has_dot(c, row, column))
                    dot(top + (row + (index ? index_drop : 0)) * scale, left + column * scale);
        left += advance * scale;
        index = false;
    }
}

}  // namespace ito::diffusion
