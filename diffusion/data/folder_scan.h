#pragma once
// What a folder of images holds: which files a training takes, and what it passes over.

#include <filesystem>
#include <string>
#include <vector>

#include "diffusion/data/dataset.h"

namespace ito::diffusion {

/// The images below a folder, found by their names and first bytes; nothing is decoded.
struct FolderScan {
    std::filesystem::path folder;  ///< where they lie: the folder that was asked for, or a split in it
    std::vector<std::filesystem::path> files;  ///< in the order of their paths
    /// One line for each choice that was made: the split, what was passed over and why.
    std::vector<std::string> notes;
};

/// Takes every file named .png, .jpg, .jpeg, .jpe, .jfif or .webp (in any case), and of the others those whose first
/// bytes are a PNG's, JPEG's or WebP's. Files of usual companions (.txt, .json, .csv, ...) are not opened. Links are
/// followed. Passed over, with a note: other files, system folders (lost+found, ...), links that lead back
/// to a folder above them, folders of models (runs: model_index.json), what cannot be read. Passed over without one: names that begin with a dot.
///
/// If all subfolders with images are splits (train or training, val, valid or validation, test or testing, eval; in any
/// case), the one that `split` names is the folder. Throws ito::Error where it is missing, where images lie beside a
/// split (train and cat: is train a class?), and where no image is found.
FolderScan scan_folder(const std::filesystem::path& folder, Split split = Split::train);

}  // namespace ito::diffusion
