#pragma once
// RUN/left_out.json: the files that a training with --skip-broken left out when it began.

#include <filesystem>
#include <string>
#include <vector>

#include "diffusion/run/run.h"

namespace ito::apps {

void write_left_out(const diffusion::Run& run, const std::vector<std::string>& files);

/// `files` are those that are broken now, relative to `folder`. Throws Error that names a file which broke since the training
/// began, or was repaired: it would go on with other images, even if their number is the same.
void check_left_out(const diffusion::Run& run, const std::filesystem::path& folder,
                    const std::vector<std::string>& files);

}  // namespace ito::apps
