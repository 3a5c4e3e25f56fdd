#pragma once
// Files that a command is asked to write, refused before any time is spent where they could not be.

#include <filesystem>

namespace ito::apps {

/// Throws Error naming `option` unless `path` can be written: its folder is there, and nothing has that name (with
/// `force` a file may, which is to be replaced). `remedy` ends the message about an existing file, say ", or add
/// --force to replace it".
void check_output_file(const char* option, const std::filesystem::path& path, bool force, const char* remedy);

}  // namespace ito::apps
