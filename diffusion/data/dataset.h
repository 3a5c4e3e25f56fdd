#pragma once
// A data set of equally large images, whole in memory, and the one way to open each kind.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ito::diffusion {

/// Images and, if there are any, their labels.
struct Dataset {
    std::int64_t count = 0, height = 0, width = 0, channels = 0;
    std::vector<std::uint8_t> images;      ///< [count, height, width, channels]
    std::vector<std::int64_t> labels;      ///< [count], or empty: unlabelled
    std::vector<std::string> label_names;  ///< by label, or empty
    /// For the user, one line for each choice that was made: which split, what was passed over.
    std::vector<std::string> notes = {};
    /// With DatasetOptions::skip_broken: files that cannot be read, relative to their folder.
    std::vector<std::string> left_out = {};

    std::int64_t image_size() const { return height * width * channels; }
    std::span<const std::uint8_t> image(std::int64_t i) const {
        return std::span(images).subspan(static_cast<std::size_t>(i * image_size()),
                                         static_cast<std::size_t>(image_size()));
    }
};

enum class Split { train, test };

/// "train" or "test"; throws for anything else.
Split parse_split(const std::string& name);

/// Which part of a data set, and in what size.
struct DatasetOptions {
    std::filesystem::path data_dir = {};  ///< where the files of a named set are
    std::int64_t image_size = 0;          ///< side of the (square) images; 0 leaves them as they are
    Split split = Split::train;
    bool skip_broken = false;  ///< leaves out the files of a folder that cannot be read, instead of an Error
    bool resumed = false;      ///< for a resumed run: errors do not advise another data set
};

/// `name_or_dir` is one of
///
///   fashion-mnist   the four IDX files in data_dir, or where Debian's package dataset-fashion-mnist puts them
///   mnist           the four IDX files in data_dir
///   cifar10         the .bin files in data_dir
///   any folder      of PNG, JPEG and WebP files; data_dir must be empty. What is taken, and which of several splits:
///                   folder_scan.h. (A folder called mnist: ./mnist.)
///
/// Throws ito::Error, one line that names the option to change; it returns nothing incomplete.
Dataset load_dataset(const std::string& name_or_dir, const DatasetOptions& options = {});

/// True for fashion-mnist, mnist and cifar10: not a folder.
bool is_dataset_name(const std::string& text);

/// Three equal channels for each gray pixel.
void append_as_rgb(std::vector<std::uint8_t>& to, std::span<const std::uint8_t> gray);

/// The images with `channels` channels: unchanged, or gray ones as RGB. Throws Error for anything else.
Dataset with_channels(Dataset dataset, std::int64_t channels);

/// Every image scaled and cropped to size x size (image/resize.h); unchanged if it is already that.
Dataset resize_dataset(Dataset dataset, std::int64_t size);

/// Throws Error if `count` images of this size need more memory than is free. options.image_size says whether they were scaled.
void check_memory(std::int64_t count, std::int64_t height, std::int64_t width, std::int64_t channels,
                  const DatasetOptions& options);

/// Throws unless 1 <= size <= 4096, or 0 ("as they are").
void check_image_side(std::int64_t size);

}  // namespace ito::diffusion
