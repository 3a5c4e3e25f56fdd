#pragma once
// scheduler/scheduler_config.json, in the fields of diffusers' DDPMScheduler, so that either side opens the
// other's. A field that this project does not know is ignored if it can only be about other samplers; a value
// that would change the model's samples and is not supported is refused by name.

#include <filesystem>
#include <string>
#include <string_view>

#include "diffusion/schedule.h"

namespace ito::diffusion {

/// A schedule, and how sampling walks along it.
struct SchedulerConfig {
    NoiseScheduleOptions schedule;
    VarianceKind variance = VarianceKind::posterior;
    bool clip_sample = true;
    double clip_sample_range = 1;
    TimestepSpacing timestep_spacing = TimestepSpacing::linspace;
    std::int64_t steps_offset = 0;

    /// What ReverseProcess::coefficients takes.
    double clip() const { return clip_sample ? clip_sample_range : 0; }

    bool operator==(const SchedulerConfig&) const = default;
};

/// A missing field has diffusers' default (so timestep_spacing "leading"). `file` names the text in errors.
SchedulerConfig parse_scheduler_config(std::string_view text, const std::string& file);
SchedulerConfig read_scheduler_config(const std::filesystem::path& path);

/// Betas that were rescaled are written as what they became, since diffusers has no such option.
std::string format_scheduler_config(const SchedulerConfig& config);
void write_scheduler_config(const std::filesystem::path& path, const SchedulerConfig& config);

}  // namespace ito::diffusion
