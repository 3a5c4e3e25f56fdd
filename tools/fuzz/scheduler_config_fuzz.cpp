// scheduler/scheduler_config.json: what was accepted, written and read again is the same, and its chains are finite.

#include <algorithm>
#include <cmath>

#include "diffusion/pipeline/scheduler_config.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(scheduler_config) {
    diffusion::SchedulerConfig config;
    std::vector<std::string> notes;
    if (!fuzz::accepts(
            [&] { config = diffusion::parse_scheduler_config(fuzz::text_of(input), "f", &notes); }))
        return;
    for (const auto& note : notes) fuzz::expect_one_line(note);
    const std::string written = diffusion::format_scheduler_config(config);
    fuzz::expect(diffusion::parse_scheduler_config(written, "w") == config, "another scheduler after {}",
                 written);
    for (const std::int64_t steps : {std::int64_t{2}, std::min<std::int64_t>(config.schedule.timesteps, 50)})
        fuzz::accepts([&] {  // an offset may leave no room for so many
            const diffusion::ReverseProcess process = diffusion::reverse_process(config, steps);
            for (std::int64_t i = 0; i < process.size(); ++i) {
                const auto step = process.coefficients(i, config.clip());
                fuzz::expect(std::isfinite(step.predict_x) && std::isfinite(step.predict_eps) &&
                                 std::isfinite(step.mean_x0) && std::isfinite(step.mean_x) && step.sigma >= 0,
                             "step {} of {} is not finite after {}", i, steps, written);
            }
        });
}
