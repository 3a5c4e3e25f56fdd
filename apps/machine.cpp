#include "apps/machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

namespace ito::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

std::string first_line(const fs::path& file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    return line;
}

/// The text after "key" and any of ": \t" in the first line that begins with it.
std::string entry(const fs::path& file, const std::string& key) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        if (!line.starts_with(key)) continue;
        const auto at = line.find_first_not_of(": \t", key.size());
        if (at != key.size()) return at == std::string::npos ? "" : line.substr(at);
    }
    return {};
}

/// The number that `text` begins with; `otherwise` if there is none ("max", a file that is not there).
std::uint64_t number(const std::string& text, std::uint64_t otherwise) {
    std::uint64_t value = 0;
    std::istringstream in(text);
    return in >> value ? value : otherwise;
}

/// The folders of control groups that may limit this process: its own, and what a container sees as the root.
std::vector<fs::path> control_groups(const std::string& controller) {
    const fs::path root = "/sys/fs/cgroup";
    std::vector<fs::path> folders{root, root / controller};
    std::ifstream in("/proc/self/cgroup");
    for (std::string line; std::getline(in, line);) {
        // hierarchy:controllers:/path, no controllers in version 2
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

struct Limit {
    std::uint64_t bytes = unlimited, used = 0;
};

/// Memory limit of a control group of version 2 or 1. Cached files count as used, but make room when needed.
Limit memory_limit(const fs::path& group) {
    struct Names {
        const char *limit, *used, *cached;
    };
    Limit smallest;
    for (const Names& names :
         {Names{"memory.max", "memory.current", "inactive_file"},
          Names{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}}) {
        const std::uint64_t limit = number(first_line(group / names.limit), unlimited);
        if (limit >= smallest.bytes) continue;
        const std::uint64_t used = number(first_line(group / names.used), 0);
        const std::uint64_t cached = number(entry(group / "memory.stat", names.cached), 0);
        smallest = {limit, used - std::min(used, cached)};
    }
    return smallest;
}

}  // namespace

std::string processor_name() {
    return entry("/proc/cpuinfo", "model name");
}

std::vector<std::string> processor_features() {
    std::istringstream flags(entry("/proc/cpuinfo", "flags"));
    const std::vector<std::string> have{std::istream_iterator<std::string>(flags), {}};
    std::vector<std::string> features;
    for (const char* name : {"sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl",
                             "avx512_vnni", "avx512_bf16", "amx_bf16"})
        if (std::find(have.begin(), have.end(), name) != have.end()) features.emplace_back(name);
    return features;
}

int online_processors() {
    return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
}

std::optional<double> processor_limit() {
    std::optional<double> smallest;
    for (const fs::path& group : control_groups("cpu")) {
        std::istringstream both(first_line(group / "cpu.max"));  // "max 100000", or "150000 100000"
        std::string quota, period;
        if (!(both >> quota >> period)) {
            quota = first_line(group / "cpu.cfs_quota_us");
            period = first_line(group / "cpu.cfs_period_us");
        }
        if (quota.empty() || quota == "max" || quota.starts_with('-') || number(period, 0) == 0) continue;
        const double processors =
            static_cast<double>(number(quota, 0)) / static_cast<double>(number(period, 1));
        smallest = std::min(processors, smallest.value_or(processors));
    }
    return smallest;
}

Memory memory() {
    constexpr std::uint64_t kib = 1024;
    Memory memory{number(entry("/proc/meminfo", "MemTotal"), 0) * kib,
                  number(entry("/proc/meminfo", "MemAvailable"), 0) * kib};
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

std::string huge_pages() {
    const std::string line =
        first_line("/sys/kernel/mm/transparent_hugepage/enabled");  // always [madvise] never
    const auto begin = line.find('['), end = line.find(']');
    return begin == std::string::npos || end < begin ? "" : line.substr(begin + 1, end - begin - 1);
}

bool nvidia_driver() {
    std::error_code ignored;
    return fs::exists("/proc/driver/nvidia/version", ignored) || fs::exists("/dev/nvidiactl", ignored);
}

std::string why_not_writable(const fs::path& folder) {
    std::string pattern = (folder / ".ito-doctor-XXXXXX").string();
    const int file = mkostemp(pattern.data(), O_CLOEXEC);
    if (file < 0) return std::strerror(errno);
    close(file);
    unlink(pattern.c_str());
    return {};
}

}  // namespace ito::apps
