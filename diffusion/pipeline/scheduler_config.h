#pragma once
// scheduler/scheduler_config.json, in the fields of diffusers' DDPMScheduler: each side opens the other's. Every field that some
// version of that class reads is honoured, or refused by name (if its value would change the samples and is not supported), or
// known to change nothing. A note names other fields.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

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

/// A missing field has diffusers' default (so timestep_spacing is "leading"). `file` names the text in errors. Unknown fields add a
/// line for the user to `notes`, if those are given.
SchedulerConfig parse_scheduler_config(std::string_view text, const std::string& file,
                                       std::vector<std::string>* notes = nullptr);
SchedulerConfig read_scheduler_config(const std::filesystem::path& path,
                                      std::vector<std::string>* notes = nullptr);

/// "leading", "linspace", "trailing".
const char* name_of(TimestepSpacing spacing);
/// Throws Error naming `what` (the option or field) for other names.
TimestepSpacing parse_timestep_spacing(const std::string& text, const std::string& what);

/// The chain of `steps` steps that the config stands for: its schedule, spacing, offset and variance.
ReverseProcess reverse_process(const SchedulerConfig& config, std::int64_t steps);
/// The same for previews and figures, which must not end a training: if an offset moves a short chain out of the schedule, the
/// steps are spread as linspace does.
ReverseProcess preview_process(SchedulerConfig config, std::int64_t steps);

/// Writes rescaled betas as they are, since diffusers has no option to rescale.
std::string format_scheduler_config(const SchedulerConfig& config);
void write_scheduler_config(const std::filesystem::path& path, const SchedulerConfig& config);

}  // namespace ito::diffusion
