#pragma once
// Text files and folders, with errors that name them.

#include <filesystem>
#include <string>

namespace ito {

/// False too if the path cannot be looked at.
bool present(const std::filesystem::path& path);
/// Reads a whole text file; throws Error naming it.
std::string read_text(const std::filesystem::path& path);
/// The same of a JSON file. Throws Error saying what the file is if that is recognised as something else (file_kind.h).
std::string read_json_text(const std::filesystem::path& path);
/// Creates a folder and its parents; throws Error naming it.
void make_folder(const std::filesystem::path& path);

}  // namespace ito
