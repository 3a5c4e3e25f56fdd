#include "diffusion/data/folder.h"

#include <algorithm>

#include "core/context.h"
#include "core/error.h"
#include "diffusion/image/image.h"
#include "diffusion/image/resize.h"
#include "kernels/cpu/parallel.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;

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

/// Ten times the largest images that diffusion models of pixels are usually trained on.
constexpr std::int64_t large_pixels = std::int64_t{10} * 256 * 256;

struct Decoded {
    Image image;
    std::string error;  ///< why there is none
};

class Loader {
  public:
    Loader(const FolderScan& scan, const DatasetOptions& options) : scan_(scan), options_(options) {}

    Dataset load() {
        const auto count = static_cast<std::int64_t>(scan_.files.size());
        // Checked before any file is decoded. Gray is assumed; colours take three times as much.
        if (options_.image_size > 0)
            check_memory(count, options_.image_size, options_.image_size, 1, options_);
        for (std::int64_t first = 0; first < count;) {
            const std::int64_t size = std::min(batch(), count - first);
            std::vector<Decoded> decoded(static_cast<std::size_t>(size));
            kernels::parallel_for(context_of(Device::cpu()), size, [&](std::int64_t i, int) {
                decoded[static_cast<std::size_t>(i)] =
                    decode(scan_.files[static_cast<std::size_t>(first + i)]);
            });
            for (std::int64_t i = 0; i < size; ++i)
                add(scan_.files[static_cast<std::size_t>(first + i)], decoded[static_cast<std::size_t>(i)]);
            first += size;
        }
        dataset_.notes = scan_.notes;
        if (!dataset_.left_out.empty()) report_broken();
        if (options_.image_size == 0 && !options_.resumed && dataset_.height * dataset_.width > large_pixels)
            dataset_.notes.push_back(fmt::format(
                "{}: images of {}x{} as they are need much time and memory; `image_size` 64 scales them",
                scan_.folder.string(), dataset_.width, dataset_.height));
        label_by_subfolder(dataset_, scan_.folder, taken_);
        return std::move(dataset_);
    }

  private:
    /// How many images are decoded at a time: enough for all threads, few enough that they take little memory.
    std::int64_t batch() const {
        constexpr std::int64_t most = 64, most_bytes = std::int64_t{256} << 20;
        if (options_.image_size > 0) return most;
        return dataset_.count == 0 ? 1
                                   : std::clamp<std::int64_t>(most_bytes / dataset_.image_size(), 1, most);
    }

    Decoded decode(const fs::path& file) const {
        try {
            Image image = read_image(file);
            if (options_.image_size > 0) image = resize_to_square(image, options_.image_size);
            return {std::move(image), {}};
        } catch (const Error& error) {
            return {{}, error.what()};
        }
    }

    void add(const fs::path& file, const Decoded& decoded) {
        if (!decoded.error.empty()) {
            if (dataset_.left_out.empty()) first_error_ = decoded.error;
            dataset_.left_out.push_back(file.lexically_relative(scan_.folder).string());
            return;
        }
        const Image& image = decoded.image;
        if (dataset_.count == 0) {
            dataset_.height = image.height;
            dataset_.width = image.width;
            reserve(dataset_.images, image.channels);
        }
        taken_.push_back(file);
        require(image.height == dataset_.height && image.width == dataset_.width,
                "{} has {} x {} pixels, but {} has {} x {}: {}", file.string(), image.width, image.height,
                taken_.front().string(), dataset_.width, dataset_.height,
                options_.resumed ? remedy() : "give `image_size` to scale them all");
        append(image);
    }

    void append(const Image& image) {
        if (image.channels > dataset_.channels && dataset_.count > 0) {
            // The first image in colour: all before it become RGB.
            std::vector<std::uint8_t> rgb;
            reserve(rgb, image.channels);
            append_as_rgb(rgb, dataset_.images);
            dataset_.images = std::move(rgb);
        }
        dataset_.channels = std::max(dataset_.channels, image.channels);
        if (image.channels == dataset_.channels) {
            dataset_.images.insert(dataset_.images.end(), image.pixels.begin(), image.pixels.end());
        } else {
            append_as_rgb(dataset_.images, image.pixels);
        }
        ++dataset_.count;
    }

    /// Reserves for all images at once: a growing vector needs up to three times the memory.
    void reserve(std::vector<std::uint8_t>& bytes, std::int64_t channels) const {
        const auto count = static_cast<std::int64_t>(scan_.files.size());
        check_memory(count, dataset_.height, dataset_.width, channels, options_);
        bytes.reserve(static_cast<std::size_t>(count * dataset_.height * dataset_.width * channels));
    }

    void report_broken() {
        const std::string folder = scan_.folder.string(), names = listed(dataset_.left_out);
        const std::size_t broken = dataset_.left_out.size(), all = scan_.files.size();
        require(dataset_.count > 0 || !options_.skip_broken, "{}: none of the {} images can be read ({})",
                folder, all, first_error_);
        if (options_.skip_broken) {
            dataset_.notes.push_back(
                excerpt(fmt::format("{}: left out {} of {} images that cannot be read: {}", folder, broken,
                                    all, names),
                        2000));
            return;
        }
        require(broken > 1, "{}; 1 of {} images cannot be read: {}", first_error_, all, remedy());
        fail("{}: {} of {} images cannot be read: {}; {} ({})", folder, broken, all, names, remedy(),
             first_error_);
    }

    const char* remedy() const {
        return options_.resumed ? "restore what was there: a resumed training needs the images it began with"
                                : "mend or remove them, or leave them out with `skip_broken`";
    }

    const FolderScan& scan_;
    const DatasetOptions& options_;
    Dataset dataset_;
    std::vector<fs::path> taken_;  ///< the files whose images are in the set
    std::string first_error_;
};

}  // namespace

Dataset load_folder(const FolderScan& scan, const DatasetOptions& options) {
    check_image_side(options.image_size);
    return Loader(scan, options).load();
}

}  // namespace ito::diffusion
