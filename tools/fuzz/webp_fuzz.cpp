// WebP: an image that was accepted has its size, and is the same each time it is read.

#include "diffusion/image/webp.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(webp) {
    diffusion::Image image;
    if (!fuzz::accepts([&] { image = diffusion::decode_webp(input, "f"); })) return;
    fuzz::expect(
        image.channels == 3 &&
            image.pixels.size() == static_cast<std::size_t>(image.height * image.width * image.channels),
        "{} bytes for {} x {} x {}", image.pixels.size(), image.height, image.width, image.channels);
    if (image.pixels.size() < 1 << 16)
        fuzz::expect(diffusion::decode_webp(input, "f").pixels == image.pixels,
                     "another image when read again");
}
