#pragma once
// A folder of PNG, JPEG and WebP files as a data set.

#include "diffusion/data/dataset.h"
#include "diffusion/data/folder_scan.h"

namespace ito::diffusion {

/// The files of the scan, decoded by all threads. With options.image_size > 0 each is scaled and cropped to that square
/// as soon as it is decoded; with 0 all must have one size. One channel if every file is grayscale, else three. If no
/// image lies directly in the folder, the subfolders are the classes: labels in the order of their names.
///
/// Files that cannot be read or decoded: ito::Error that names them, or with options.skip_broken the set without them,
/// which Dataset::left_out and a note name.
Dataset load_folder(const FolderScan& scan, const DatasetOptions& options = {});

}  // namespace ito::diffusion
