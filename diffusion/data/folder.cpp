#include "diffusion/data/folder.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "core/error.h"
#include "diffusion/image/image.h"
#include "diffusion/image/resize.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;

bool is_image_name(const fs::path& path) {
    std::string extension = path.extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

/// Adds the image files below `folder`; `open` holds the folders on the way here, so that a link to one of
/// them is not followed around in a circle.
void collect(const fs::path& folder, std::set<fs::path>& open, std::vector<fs::path>& files) {
    const fs::path real = fs::canonical(folder);
    if (!open.insert(real).second) return;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        const fs::path& path = entry.path();
        if (path.filename().string().front() == '.') continue;
        if (entry.is_directory()) {
            collect(path, open, files);
        } else if (is_image_name(path)) {
            files.push_back(path);
        }
    }
    open.erase(real);
}

/// Three equal channels for each gray pixel.
void append_as_rgb(std::vector<std::uint8_t>& to, std::span<const std::uint8_t> gray) {
    for (const std::uint8_t value : gray) to.insert(to.end(), 3, value);
}

void append_image(Dataset& dataset, const Image& image) {
    if (image.channels > dataset.channels) {
        // The first image in colour: those before it become RGB as well.
        std::vector<std::uint8_t> rgb;
        rgb.reserve(dataset.images.size() * 3);
        append_as_rgb(rgb, dataset.images);
        dataset.images = std::move(rgb);
        dataset.channels = image.channels;
    }
    if (image.channels == dataset.channels) {
        dataset.images.insert(dataset.images.end(), image.pixels.begin(), image.pixels.end());
    } else {
        append_as_rgb(dataset.images, image.pixels);
    }
    ++dataset.count;
}

void label_by_subfolder(Dataset& dataset, const fs::path& folder, const std::vector<fs::path>& files) {
    std::vector<std::string> classes;
    for (const fs::path& file : files) {
        const fs::path relative = file.lexically_relative(folder);
        if (!relative.has_parent_path()) return;
        classes.push_back(relative.begin()->string());
    }
    dataset.label_names = classes;
    std::sort(dataset.label_names.begin(), dataset.label_names.end());
    dataset.label_names.erase(std::unique(dataset.label_names.begin(), dataset.label_names.end()),
                              dataset.label_names.end());
    for (const std::string& name : classes)
        dataset.labels.push_back(
            std::lower_bound(dataset.label_names.begin(), dataset.label_names.end(), name) -
            dataset.label_names.begin());
}

}  // namespace

std::vector<fs::path> image_files(const fs::path& folder) {
    require(fs::is_directory(folder), "{}: is not a folder", folder.string());
    std::vector<fs::path> files;
    std::set<fs::path> open;
    try {
        collect(folder, open, files);
    } catch (const fs::filesystem_error& error) {
        fail("{}: cannot be read: {}", error.path1().string(), error.code().message());
    }
    require(!files.empty(), "{}: holds no .png, .jpg or .jpeg file", folder.string());
    std::sort(files.begin(), files.end());
    return files;
}

Dataset load_folder(const fs::path& folder, std::int64_t image_size) {
    check_image_side(image_size);
    const std::vector<fs::path> files = image_files(folder);
    check_memory(static_cast<std::int64_t>(files.size()), image_size,
                 1);  // with colours it is three times as much
    Dataset dataset;
    for (const fs::path& file : files) {
        Image image = read_image(file);
        if (image_size > 0) image = resize_to_square(image, image_size);
        if (dataset.count == 0) {
            dataset.height = image.height;
            dataset.width = image.width;
            dataset.channels = image.channels;
        }
        require(image.height == dataset.height && image.width == dataset.width,
                "{} has {} x {} pixels, but {} has {} x {}: give --image-size to scale them all",
                file.string(), image.width, image.height, files.front().string(), dataset.width,
                dataset.height);
        append_image(dataset, image);
    }
    label_by_subfolder(dataset, folder, files);
    return dataset;
}

}  // namespace ito::diffusion
