#include "diffusion/image/webp.h"

#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "core/error.h"
#include "diffusion/image/alpha.h"
#include "diffusion/image/exif.h"

namespace ito::diffusion {
namespace {

struct DeleteDemuxer {
    void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

/// One frame of an animation, or the only one of a still image. It points into the demuxer.
struct Frame {
    WebPIterator iterator = {};

    Frame(const WebPDemuxer* demuxer, int number) {
        if (WebPDemuxGetFrame(demuxer, number, &iterator) == 0) iterator.num_frames = 0;
    }
    ~Frame() { WebPDemuxReleaseIterator(&iterator); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;
};

/// The length in the file's header. A shorter file must be refused: the decoder would read its missing bytes as zeros.
std::size_t announced_size(std::span<const std::byte> bytes) {
    constexpr std::size_t at = 4, header = 8;
    if (bytes.size() < header) return header;
    std::size_t size = 0;
    for (std::size_t i = 0; i < 4; ++i) size |= std::to_integer<std::size_t>(bytes[at + i]) << 8 * i;
    return header + size;
}

int orientation_of(const WebPDemuxer* demuxer) {
    WebPChunkIterator chunk = {};
    int orientation = 1;
    if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk) != 0)
        orientation = exif_orientation(std::as_bytes(std::span(chunk.chunk.bytes, chunk.chunk.size)));
    WebPDemuxReleaseChunkIterator(&chunk);
    return orientation;
}

}  // namespace

Image decode_webp(std::span<const std::byte> bytes, const std::string& file) {
    require(announced_size(bytes) <= bytes.size(), "{}: damaged WebP: the file ends too early", file);
    const WebPData data{reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
    // Refuses a file whose chunks are not whole.
    const std::unique_ptr<WebPDemuxer, DeleteDemuxer> demuxer(WebPDemux(&data));
    require(demuxer != nullptr, "{}: damaged WebP: its chunks are not whole or contradict each other", file);
    const Frame first(demuxer.get(), 1);
    const WebPIterator& frame = first.iterator;
    require(frame.num_frames > 0 && frame.complete != 0, "{}: damaged WebP: it holds no whole image", file);

    Image image;
    image.height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
    image.width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
    image.channels = 3;
    check_image_size(image.height, image.width, file);
    require(frame.x_offset >= 0 && frame.y_offset >= 0 && frame.width > 0 && frame.height > 0 &&
                frame.x_offset + frame.width <= image.width && frame.y_offset + frame.height <= image.height,
            "{}: damaged WebP: a frame of {} x {} pixels at {}, {} of an image of {} x {}", file, frame.width,
            frame.height, frame.x_offset, frame.y_offset, image.width, image.height);

    // If the first frame covers only a part of the image, the rest is transparent.
    const bool covers = frame.width == image.width && frame.height == image.height;
    const bool alpha = frame.has_alpha != 0 || !covers;
    const std::size_t channels = alpha ? 4 : 3, stride = static_cast<std::size_t>(image.width) * channels;
    image.pixels.resize(static_cast<std::size_t>(image.height) * stride);
    const std::size_t begin = static_cast<std::size_t>(frame.y_offset) * stride +
                              static_cast<std::size_t>(frame.x_offset) * channels;
    const auto decode = alpha ? WebPDecodeRGBAInto : WebPDecodeRGBInto;
    require(decode(frame.fragment.bytes, frame.fragment.size, image.pixels.data() + begin,
                   image.pixels.size() - begin, static_cast<int>(stride)) != nullptr,
            "{}: damaged WebP: its pixels cannot be decoded", file);
    if (alpha) image.pixels = over_white(image.pixels, channels, 3);
    return upright(std::move(image), orientation_of(demuxer.get()));
}

}  // namespace ito::diffusion
