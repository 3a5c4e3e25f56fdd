// PNG: what was accepted, written and read again is the same image.

#include "diffusion/image/png.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(png) {
    diffusion::Image image;
    if (!fuzz::accepts([&] { image = diffusion::decode_png(input, "f"); })) return;
    if (image.pixels.size() > 1 << 20) return;  // packs into few bytes, and takes seconds to write
    const diffusion::Image again = diffusion::decode_png(diffusion::encode_png(image), "w");
    fuzz::expect(again.height == image.height && again.width == image.width &&
                     again.channels == image.channels && again.pixels == image.pixels,
                 "another image of {} x {} x {} after writing", image.height, image.width, image.channels);
}
