#pragma once
// A folder of PNG, JPEG and WebP files as a data set.

#include "diffusion/data/dataset.h"
#include "diffusion/data/folder_scan.h"

namespace ito::diffusion {

/// Decodes the files of the scan, on all threads. With options.image_size > 0 each is scaled and cropped to that square as soon
/// as it is decoded; with 0 all must have one size. One channel if every file is grayscale, else three. If no image is directly
/// in the folder, the subfolders are the classes: labels in the order of their names.
///
/// Throws ito::Error naming all files that cannot be read or decoded. With options.skip_broken it leaves them out, and names them
/// in Dataset::left_out and in a note.
Dataset load_folder(const FolderScan& scan, const DatasetOptions& options = {});

}  // namespace ito::diffusion
