#include "diffusion/data/dataset.h"

#include "core/error.h"
#include "core/io/system.h"
#include "diffusion/data/cifar10.h"
#include "diffusion/data/folder.h"
#include "diffusion/data/idx.h"
#include "diffusion/image/resize.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

Split parse_split(const std::string& name) {
    if (name == "train") return Split::train;
    if (name == "test") return Split::test;
    fail("split is \"{}\", expected train or test", name);
}

bool is_dataset_name(const std::string& text) {
    return text == "fashion-mnist" || text == "mnist" || text == "cifar10";
}

void check_image_side(std::int64_t size) {
    constexpr std::int64_t largest = 4096;
    require(size >= 0 && size <= largest,
            "`image_size` {}: expected 1 to {}, or 0 to leave images as they are", size, largest);
}

void check_memory(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t channels,
                  const DatasetOptions& options) {
    constexpr double gib = 1 << 30;
    const auto memory = system::memory();
    const double needed = static_cast<double>(count) * static_cast<double>(height * width * channels),
                 there = static_cast<double>(memory.available + memory.swap);
    if (memory.total == 0 || needed < there) return;
    if (options.image_size > 0 && !options.resumed)
        fail(
            "`image_size` {}: {} images of that size take {:.1f} GiB of memory, and {:.1f} GiB are free; use "
            "a smaller size",
            options.image_size, count, needed / gib, there / gib);
    require(!options.resumed,
            "{} images of {}x{} pixels take {:.1f} GiB of memory, and {:.1f} GiB are free; end other "
            "programs, or resume on a machine with more",
            count, width, height, needed / gib, there / gib);
    fail(
        "{} images of {}x{} pixels take {:.1f} GiB of memory, and {:.1f} GiB are free; scale them with "
        "`image_size`, for example `image_size` 64",
        count, width, height, needed / gib, there / gib);
}

void append_as_rgb(std::vector<std::uint8_t>& to, std::span<const std::uint8_t> gray) {
    for (const std::uint8_t value : gray) to.insert(to.end(), 3, value);
}

Dataset with_channels(Dataset dataset, std::int64_t channels) {
    if (dataset.channels == channels) return dataset;
    require(dataset.channels == 1 && channels == 3, "`data`: images of {}, the network is for {}",
            dataset.channels == 1 ? "1 channel" : "3 channels",
            channels == 1 ? "1" : fmt::to_string(channels));
    std::vector<std::uint8_t> rgb;
    rgb.reserve(3 * dataset.images.size());
    append_as_rgb(rgb, dataset.images);
    dataset.images = std::move(rgb);
    dataset.channels = 3;
    return dataset;
}

Dataset resize_dataset(Dataset dataset, std::int64_t size) {
    check_image_side(size);
    if (size == 0 || (dataset.height == size && dataset.width == size)) return dataset;
    check_memory(dataset.count, size, size, dataset.channels, {.image_size = size});
    std::vector<std::uint8_t> resized;
    resized.reserve(static_cast<std::size_t>(dataset.count * size * size * dataset.channels));
    for (std::int64_t i = 0; i < dataset.count; ++i) {
        const auto pixels = dataset.image(i);
        const Image image{dataset.height, dataset.width, dataset.channels, {pixels.begin(), pixels.end()}};
        const Image square = resize_to_square(image, size);
        resized.insert(resized.end(), square.pixels.begin(), square.pixels.end());
    }
    dataset.images = std::move(resized);
    dataset.height = dataset.width = size;
    return dataset;
}

Dataset load_dataset(const std::string& name_or_dir, const DatasetOptions& options) {
    check_image_side(options.image_size);
    const auto sized = [&](Dataset dataset) {
        return resize_dataset(std::move(dataset), options.image_size);
    };
    if (name_or_dir == "fashion-mnist") return sized(load_fashion_mnist(options.data_dir, options.split));
    if (name_or_dir == "mnist" || name_or_dir == "cifar10") {
        const bool mnist = name_or_dir == "mnist";
        require(
            !options.data_dir.empty(), "`data` {}: give `data_dir` too, the folder with {}", name_or_dir,
            mnist
                ? "train-images-idx3-ubyte.gz and the rest (files: "
                  "https://ossci-datasets.s3.amazonaws.com/mnist/)"
                : "data_batch_1.bin and the rest (https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz)");
        return sized(mnist ? load_mnist(options.data_dir, options.split)
                           : load_cifar10(options.data_dir, options.split));
    }
    require(fs::is_directory(name_or_dir),
            "`data` {}: is neither fashion-mnist, mnist, cifar10 nor a folder of images", name_or_dir);
    require(options.data_dir.empty(),
            "`data` {}: is a folder of images, with which `data_dir` {} has no meaning", name_or_dir,
            options.data_dir.string());
    return load_folder(scan_folder(name_or_dir, options.split), options);
}

}  // namespace ito::diffusion
