#pragma once
// A folder of PNG and JPEG files as a data set.

#include <filesystem>
#include <vector>

#include "diffusion/data/dataset.h"

namespace ito::diffusion {

/// Every .png, .jpg and .jpeg (in any case) below the folder, in the order of its path; names that begin with
/// a dot are passed over, links followed. Throws unless there is one.
std::vector<std::filesystem::path> image_files(const std::filesystem::path& folder);

/// These files. With image_size > 0 each is scaled and cropped to that square; with 0 all must have one size. One
/// channel if every file is grayscale, else three. If no image lies directly in the folder, the subfolders are the
/// classes: labels in the order of their names.
Dataset load_folder(const std::filesystem::path& folder, std::int64_t image_size);

}  // namespace ito::diffusion
