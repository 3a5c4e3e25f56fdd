#pragma once
// The machine, and how much of it this process may use, from Linux's /proc and /sys.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ito::system {

/// The first line of a file; empty if it cannot be read.
std::string first_line(const std::filesystem::path& file);

/// The text after `key` and any of ": \t" in the first line that begins with `key`.
std::string entry(const std::filesystem::path& file, const std::string& key);

/// The number that `text` begins with; `otherwise` if there is none ("max", a file that is not there).
std::uint64_t number(const std::string& text, std::uint64_t otherwise);

/// The current path of an open file or folder, even if it was renamed; none if it was removed or the path is unknown.
std::optional<std::filesystem::path> path_of(int descriptor);

/// The folders of the control groups that may limit this process: its own, and the root that a container sees.
std::vector<std::filesystem::path> control_groups(const std::string& controller);

struct Memory {
    std::uint64_t total = 0;      ///< bytes of the machine or the container; 0 if unknown
    std::uint64_t available = 0;  ///< bytes that this process may still allocate without swapping
    std::uint64_t swap = 0;       ///< free swap space of the machine
};

/// The smallest of what the machine, a container's limit and ulimit -v leave.
Memory memory();

}  // namespace ito::system
