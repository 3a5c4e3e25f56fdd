#pragma once
// What a folder of images holds: which files a training takes, and what it passes over.

#include <filesystem>
#include <string>
#include <vector>

#include "diffusion/data/dataset.h"

namespace ito::diffusion {

/// The images below a folder, found by their names and first bytes; nothing is decoded.
struct FolderScan {
    std::filesystem::path folder;              ///< where they are: the given folder, or a split in it
    std::vector<std::filesystem::path> files;  ///< in the order of their paths
    /// One line for each choice: the split, what was passed over and why.
    std::vector<std::string> notes;
};

/// Takes every file named .png, .jpg, .jpeg, .jpe, .jfif or .webp (in any case), and others that begin as PNG, JPEG or WebP do.
/// Usual companions (.txt, .json, .csv, ...) are not opened. Links are followed. A note names what is passed over: other
/// files, system folders (lost+found, ...), links back to a folder above them, folders of models (runs: model_index.json),
/// what cannot be read. Names that begin with a dot are passed over without a note.
///
/// If all subfolders with images are splits (train or training, val, valid or validation, test or testing, eval; in any
/// case), the one that `split` names is the folder. Throws ito::Error if that is missing, if there are images beside a
/// split (train and cat: is train a class?), or if there is no image.
FolderScan scan_folder(const std::filesystem::path& folder, Split split = Split::train);

}  // namespace ito::diffusion
