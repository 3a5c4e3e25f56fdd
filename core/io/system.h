#pragma once
// What Linux says in /proc and /sys about the machine, and about what this process may use of it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ito::system {

/// Its first line; empty if it cannot be read.
std::string first_line(const std::filesystem::path& file);

/// The text after "key" and any of ": \t" in the first line that begins with it.
std::string entry(const std::filesystem::path& file, const std::string& key);

/// The number that `text` begins with; `otherwise` if there is none ("max", a file that is not there).
std::uint64_t number(const std::string& text, std::uint64_t otherwise);

/// Where an open file or folder is now, also once it was renamed; none if it was removed or the system does not tell.
std::optional<std::filesystem::path> path_of(int descriptor);

/// The folders of control groups that may limit this process: its own, and what a container sees as the root.
std::vector<std::filesystem::path> control_groups(const std::string& controller);

struct Memory {
    std::uint64_t total = 0;  ///< bytes of the machine, or of the container; 0 where the system does not tell
    std::uint64_t available = 0;  ///< what this process may still take without swapping
    std::uint64_t swap = 0;       ///< free space of the machine to swap to
};

/// The smallest of what the machine, a container's limit and ulimit -v leave.
Memory memory();

}  // namespace ito::system
