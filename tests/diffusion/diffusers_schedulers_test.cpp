// Against what diffusers' DDPMScheduler does (tests/diffusion/diffusers/schedulers.json).

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "diffusion/pipeline/scheduler_config.h"
#include "tests/support/temporary_folder.h"

namespace ito::diffusion {
namespace {

using Json = nlohmann::ordered_json;

const Json& reference() {
    static const Json json = Json::parse(testing::TemporaryFolder::read(
        std::filesystem::path(ITO_SOURCE_DIR) / "tests/diffusion/diffusers/schedulers.json"));
    return json;
}

TEST(DiffusersSchedulers, BetasAgree) {
    for (const auto& [kind, betas] : reference()["betas"].items()) {
        const Json config{{"num_train_timesteps", betas.size()}, {"beta_schedule", kind}};
        const NoiseSchedule schedule(parse_scheduler_config(config.dump(), kind).schedule);
        for (std::size_t t = 0; t < betas.size(); ++t)
            EXPECT_NEAR(schedule.betas()[t] / betas[t].get<double>(), 1, 1e-11) << kind << " " << t;
    }
}

// Every list for every number of steps, by an FNV-1a checksum.
TEST(DiffusersSchedulers, TimestepsAgree) {
    for (const Json& entry : reference()["lists"]) {
        const std::int64_t timesteps = entry["timesteps"];
        const auto spacing = parse_timestep_spacing(entry["spacing"], "spacing");
        std::uint64_t checksum = 14695981039346656037u;
        for (std::int64_t steps = spacing == TimestepSpacing::linspace ? 2 : 1; steps <= timesteps; ++steps)
            for (const std::int64_t t : spaced_timesteps(timesteps, steps, spacing))
                checksum = (checksum ^ static_cast<std::uint64_t>(t)) * 1099511628211u;
        EXPECT_EQ(std::to_string(checksum), entry["checksum"].get<std::string>())
            << timesteps << " " << entry["spacing"];
    }
}

// A step is x a + eps b + noise sigma while x_0 is not clipped.
TEST(DiffusersSchedulers, ChainsAgree) {
    int noise_on_images = 0;
    for (const Json& entry : reference()["chains"]) {
        const std::string text = entry["config"].dump();
        const SchedulerConfig config = parse_scheduler_config(text, "scheduler_config.json");
        const ReverseProcess process = reverse_process(config, entry["steps"]);
        const Json& rows = entry["rows"];
        ASSERT_EQ(process.size(), static_cast<std::int64_t>(rows.size()));
        for (std::int64_t i = 0; i < process.size(); ++i) {
            const Json& row = rows[static_cast<std::size_t>(i)];
            const auto step = process.coefficients(i, config.clip());
            EXPECT_EQ(process.transitions()[static_cast<std::size_t>(i)].t, row[0].get<std::int64_t>())
                << text;
            EXPECT_NEAR(step.mean_x0 * step.predict_x + step.mean_x, row[1].get<double>(), 1e-11) << text;
            EXPECT_NEAR(step.mean_x0 * step.predict_eps, row[2].get<double>(), 1e-11) << text;
            const auto sigma = row[3].get<double>();
            if (i + 1 < process.size()) {
                EXPECT_NEAR(step.sigma / sigma, 1, 1e-11) << text << i;
                continue;
            }
            // The finished image gets no noise here. In diffusers it does (more than the 1e-10 that stands for 0) if a chain
            // with the large variance ends above t = 0.
            EXPECT_EQ(step.sigma, 0);
            const bool large = config.variance == VarianceKind::beta && row[0] > 0;
            EXPECT_EQ(sigma > 1e-9, large) << text;
            noise_on_images += large;
        }
    }
    EXPECT_EQ(noise_on_images, 2);
}

}  // namespace
}  // namespace ito::diffusion
