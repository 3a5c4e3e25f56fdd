#pragma once
// Text files and folders, with errors that name them.

#include <filesystem>
#include <string>

namespace ito::diffusion {

/// False also for what cannot be looked at.
bool present(const std::filesystem::path& path);
/// Reads a whole text file; throws Error naming it.
std::string read_text(const std::filesystem::path& path);
/// The same of a file that should be JSON: what is recognised as something else (core/io/file_kind.h) is refused as that.
std::string read_json_text(const std::filesystem::path& path);
/// Creates a folder and its parents; throws Error naming it.
void make_folder(const std::filesystem::path& path);

}  // namespace ito::diffusion
