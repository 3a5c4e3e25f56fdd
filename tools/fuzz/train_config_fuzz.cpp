// A run's config.json: what was accepted, written and read again is the same, also by way of its config.toml.

#include "apps/config_file.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"
#include "tools/fuzz/train_options.h"

using namespace ito;

ITO_FUZZ_TARGET(train_config) {
    static const testing::TemporaryFolder folder;
    diffusion::TrainConfig config;
    const std::string text(fuzz::text_of(input));
    if (!fuzz::accepts([&] { config = diffusion::TrainConfig::from_json(text, "f"); })) return;
    const std::string written = config.to_json();
    fuzz::expect(diffusion::TrainConfig::from_json(written, "w").to_json() == written,
                 "another training after {}", written);

    CLI::App app("", "train");
    const fuzz::TrainOptions options(app);
    apps::ConfigFile file;
    file.add_option(app);
    const std::string toml = apps::to_toml(written), path = folder.write("config.toml", toml).string();
    app.parse(std::vector<std::string>{path, "--config"});
    file.run(app, [] { return 0; });
    // Empty names and lists are left out, and stand for the defaults; of --data the default is not empty.
    if (config.data.empty() || config.device.empty() || config.channel_mults.empty()) return;
    fuzz::expect(options.to_json(app) == written, "config.json {} became {} by way of {}", written,
                 options.to_json(app), toml);
}
