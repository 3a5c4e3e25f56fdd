#pragma once
// Text files and folders, with errors that name them.

#include <filesystem>
#include <string>

namespace ito::diffusion {

/// Reads a whole text file; throws Error naming it.
std::string read_text(const std::filesystem::path& path);
/// Creates a folder and its parents; throws Error naming it.
void make_folder(const std::filesystem::path& path);

}  // namespace ito::diffusion
