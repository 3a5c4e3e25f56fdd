#pragma once
// What Linux says of the machine that this process runs on, and of what it may use of it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ito::apps {

/// "Intel(R) Xeon(R) Processor"; empty where the system does not tell.
std::string processor_name();

/// Those that matter to ito's kernels and oneDNN's: "avx2", "fma", "avx512f", ...
std::vector<std::string> processor_features();

int online_processors();

/// Processors' worth of time that a container's limit leaves; nothing if there is no limit.
std::optional<double> processor_limit();

/// "always", "madvise" or "never"; empty if the kernel has no transparent huge pages.
std::string huge_pages();

/// True if a driver for NVIDIA's GPUs is loaded.
bool nvidia_driver();

/// Empty if files can be made in `folder`, else why not.
std::string why_not_writable(const std::filesystem::path& folder);
/// Empty if files can be made in `folder` once it and its parents are created, else why not.
std::string why_no_folder(const std::filesystem::path& folder);

}  // namespace ito::apps
