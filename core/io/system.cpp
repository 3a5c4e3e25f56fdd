#include "core/io/system.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

namespace ito::system {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    return line;
}

std::string entry(const fs::path& file, const std::string& key) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        if (!line.starts_with(key)) continue;
        const auto at = line.find_first_not_of(": \t", key.size());
        if (at != key.size()) return at == std::string::npos ? "" : line.substr(at);
    }
    return {};
}

std::uint64_t number(const std::string& text, std::uint64_t otherwise) {
    std::uint64_t value = 0;
    std::istringstream in(text);
    return in >> value ? value : otherwise;
}

std::optional<fs::path> path_of(int descriptor) {
    struct ::stat status {};
    if (::fstat(descriptor, &status) != 0 || status.st_nlink == 0) return {};
    std::error_code error;
    const fs::path path = fs::read_symlink(fmt::format("/proc/self/fd/{}", descriptor), error);
    // For a removed file the link's text is not a path.
    return error || !fs::exists(path, error) ? std::nullopt : std::optional(path);
}

std::vector<fs::path> control_groups(const std::string& controller) {
    const fs::path root = "/sys/fs/cgroup";
    std::vector<fs::path> folders{root, root / controller};
    std::ifstream in("/proc/self/cgroup");
    for (std::string line; std::getline(in, line);) {
        // hierarchy:controllers:/path; version 2 has no controllers
        const auto first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const auto names = fmt::format(",{},", line.substr(first + 1, second - first - 1));
        const fs::path path = fs::path(line.substr(second + 1)).relative_path();
        if (names == ",,") folders.push_back(root / path);
        if (names.find(fmt::format(",{},", controller)) != std::string::npos)
            folders.push_back(root / controller / path);
    }
    return folders;
}

namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

struct Limit {
    std::uint64_t bytes = unlimited, used = 0;
};

/// Memory limit of a control group of version 2 or 1. Its usage includes cached files, which Linux drops when memory is needed.
Limit memory_limit(const fs::path& group) {
    struct Names {
        const char *limit, *used, *prefix;
    };
    Limit smallest;
    for (const Names& names : {Names{"memory.max", "memory.current", ""},
                               Names{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_"}}) {
        const std::uint64_t limit = number(first_line(group / names.limit), unlimited);
        if (limit >= smallest.bytes) continue;
        const std::uint64_t used = number(first_line(group / names.used), 0);
        std::uint64_t cached = 0;
        for (const char* list : {"inactive_file", "active_file"})
            cached += number(entry(group / "memory.stat", fmt::format("{}{}", names.prefix, list)), 0);
        smallest = {limit, used - std::min(used, cached)};
    }
    return smallest;
}

}  // namespace

Memory memory() {
    constexpr std::uint64_t kib = 1024;
    Memory memory{number(entry("/proc/meminfo", "MemTotal"), 0) * kib,
                  number(entry("/proc/meminfo", "MemAvailable"), 0) * kib,
                  number(entry("/proc/meminfo", "SwapFree"), 0) * kib};
    for (const fs::path& group : control_groups("memory")) {
        const Limit limit = memory_limit(group);
        memory.total = std::min(memory.total, limit.bytes);
        memory.available = std::min(memory.available, limit.bytes - std::min(limit.bytes, limit.used));
    }
    rlimit address_space{};
    if (getrlimit(RLIMIT_AS, &address_space) == 0 && address_space.rlim_cur != RLIM_INFINITY) {
        const std::uint64_t limit = address_space.rlim_cur;
        const std::uint64_t used = number(entry("/proc/self/status", "VmSize"), 0) * kib;
        memory.available = std::min(memory.available, limit - std::min(limit, used));
    }
    return memory;
}

}  // namespace ito::system
