// scheduler/scheduler_config.json: what was accepted, written and read again is the same.

#include "diffusion/scheduler_config.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(scheduler_config) {
    diffusion::SchedulerConfig config;
    if (!fuzz::accepts([&] { config = diffusion::parse_scheduler_config(fuzz::text_of(input), "f"); }))
        return;
    const std::string written = diffusion::format_scheduler_config(config);
    fuzz::expect(diffusion::parse_scheduler_config(written, "w") == config, "another scheduler after {}",
                 written);
}
