#include "diffusion/image/text.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace ito::diffusion {
namespace {

constexpr std::int64_t dots_wide = 5, dots_high = 9, advance = dots_wide + 1, index_drop = 3;
/// Room above a tall letter, for a hat.
constexpr std::int64_t rise = 1;

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

/// A picture of a character; outside of it all is blank.
struct Dots {
    std::int64_t height = 0, width = 0;
    std::vector<bool> set = std::vector<bool>(static_cast<std::size_t>(height * width));

    bool at(std::int64_t y, std::int64_t x) const {
        return y >= 0 && y < height && x >= 0 && x < width && set[static_cast<std::size_t>(y * width + x)];
    }
    void put(std::int64_t y, std::int64_t x, bool dot) { set[static_cast<std::size_t>(y * width + x)] = dot; }
};

Dots dots_of(char c, bool hat) {
    Dots dots{rise + dots_high, dots_wide};
    for (std::int64_t y = 0; y < dots_high; ++y)
        for (std::int64_t x = 0; x < dots_wide; ++x) dots.put(rise + y, x, has_dot(c, y, x));
    if (hat)
        for (const auto& [y, x] : {std::pair{0, 2}, std::pair{1, 1}, std::pair{1, 3}}) dots.put(y, x, true);
    return dots;
}

/// Twice as large, with diagonals instead of stairs (Scale2x, Mazzoleni 2001).
Dots doubled(const Dots& dots) {
    Dots large{2 * dots.height, 2 * dots.width};
    for (std::int64_t y = 0; y < dots.height; ++y)
        for (std::int64_t x = 0; x < dots.width; ++x) {
            const bool here = dots.at(y, x), up = dots.at(y - 1, x), down = dots.at(y + 1, x),
                       left = dots.at(y, x - 1), right = dots.at(y, x + 1);
            const bool turns = up != down && left != right;
            large.put(2 * y, 2 * x, turns && up == left ? up : here);
            large.put(2 * y, 2 * x + 1, turns && up == right ? up : here);
            large.put(2 * y + 1, 2 * x, turns && down == left ? down : here);
            large.put(2 * y + 1, 2 * x + 1, turns && down == right ? down : here);
        }
    return large;
}

}  // namespace

std::int64_t text_width(std::string_view text, std::int64_t scale) {
    const auto places = std::count_if(text.begin(), text.end(), [](char c) { return c != '_' && c != '^'; });
    return std::max<std::int64_t>(0, places * advance - 1) * scale;
}

void draw_text(Image& image, std::string_view text, std::int64_t top, std::int64_t left, std::int64_t scale,
               std::uint8_t ink) {
    // Drawn from dots four times as fine: each pixel is the mean of those in it, so that scaled edges are smooth.
    constexpr std::int64_t fine = 4;
    const auto blend = [&](std::int64_t y, std::int64_t x, std::int64_t share, std::int64_t of) {
        if (share == 0 || y < 0 || y >= image.height || x < 0 || x >= image.width) return;
        const auto at = image.pixels.begin() + (y * image.width + x) * image.channels;
        std::transform(at, at + image.channels, at, [&](std::uint8_t paper) {
            return static_cast<std::uint8_t>(paper + (ink - paper) * share / of);
        });
    };
    bool index = false, hat = false;
    for (const char c : text) {
        if (c == '_' || c == '^') {
            (c == '_' ? index : hat) = true;
            continue;
        }
        const Dots dots = dots_of(c, hat), large = doubled(doubled(dots));
        // An index is smaller than its letter if there are enough pixels.
        const bool small = index && scale > 1;
        const std::int64_t size = small ? 2 : 3, of = 3;
        const std::int64_t drop = index ? (index_drop * of + (small ? 4 : 0)) * scale / of : 0;
        const std::int64_t first = top + drop - rise * scale * size / of;
        for (std::int64_t y = 0; y < dots.height * scale; ++y)
            for (std::int64_t x = 0; x < dots.width * scale; ++x) {
                if (scale == 1) {
                    blend(first + y, left + x, dots.at(y, x) ? 1 : 0, 1);
                    continue;
                }
                std::int64_t inside = 0;
                for (std::int64_t i = 0; i < fine * fine; ++i)
                    inside += large.at((fine * y + i / fine) * of / (size * scale),
                                       (fine * x + i % fine) * of / (size * scale));
                blend(first + y, left + x, inside, fine * fine);
            }
        left += advance * scale;
        index = hat = false;
    }
}

}  // namespace ito::diffusion
