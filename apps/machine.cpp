#include "apps/machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <system_error>

#include "core/io/system.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;

using system::control_groups, system::entry, system::first_line, system::number;

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

std::string why_no_folder(const fs::path& folder) {
    std::error_code ignored;
    fs::path place = fs::absolute(folder);
    if (!fs::exists(place, ignored) && fs::is_symlink(place, ignored)) return "it is a link to nothing";
    while (!fs::exists(place, ignored) && place.has_relative_path()) place = place.parent_path();
    if (!fs::is_directory(place, ignored)) return fmt::format("{} is a file", place.string());
    const std::string why = why_not_writable(place);
    return why.empty() ? why : fmt::format("{}: {}", place.string(), why);
}

}  // namespace ito::apps
