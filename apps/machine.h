#pragma once
// What Linux says about this machine, and what this process may use of it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ito::apps {

/// "Intel(R) Xeon(R) Processor"; empty if the system does not tell.
std::string processor_name();

/// Those that matter to ito's kernels and oneDNN's: "avx2", "fma", "avx512f", ...
std::vector<std::string> processor_features();

int online_processors();

/// How many processors' time a container's limit allows; nothing if there is no limit.
std::optional<double> processor_limit();

/// "always", "madvise" or "never"; empty if the kernel has no transparent huge pages.
std::string huge_pages();

/// True if a driver for NVIDIA's GPUs is loaded.
bool nvidia_driver();

/// Why files cannot be made in `folder`; empty if they can.
std::string why_not_writable(const std::filesystem::path& folder);
/// The same for a folder that is yet to be created, with its parents.
std::string why_no_folder(const std::filesystem::path& folder);

}  // namespace ito::apps
