#pragma once
// The files of a folder that a training with --skip-broken was begun without: RUN/left_out.json.

#include <filesystem>
#include <string>
#include <vector>

#include "diffusion/run/run.h"

namespace ito::apps {

void write_left_out(const diffusion::Run& run, const std::vector<std::string>& files);

/// Throws Error naming a file of `folder` that is broken now and was not when the training began, or the reverse: it would go
/// on with other images, even if they are as many. `files` are the broken ones of now, relative to `folder`.
void check_left_out(const diffusion::Run& run, const std::filesystem::path& folder,
                    const std::vector<std::string>& files);

}  // namespace ito::apps
