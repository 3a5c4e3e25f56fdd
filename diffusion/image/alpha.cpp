#include "diffusion/image/alpha.h"

namespace ito::diffusion {

std::vector<std::uint8_t> over_white(const std::vector<std::uint8_t>& pixels, std::size_t channels,
                                     std::size_t colors) {
    const bool has_alpha = channels % 2 == 0;
    const std::size_t count = pixels.size() / channels;
    std::vector<std::uint8_t> opaque(count * colors);
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t* from = &pixels[i * channels];
        const unsigned alpha = has_alpha ? from[channels - 1] : 255;
        for (std::size_t c = 0; c < colors; ++c)
            opaque[i * colors + c] =
                static_cast<std::uint8_t>((from[c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
    return opaque;
}

}  // namespace ito::diffusion
