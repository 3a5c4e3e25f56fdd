// A run's config.json: what was accepted, written and read again is the same, also by way of its config.toml.

#include "apps/config_file.h"
#include "apps/train_options.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"

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
    diffusion::TrainConfig read;
    apps::add_train_options(app, read);
    apps::ConfigFile file;
    file.add_option(app);
    const std::string toml = apps::to_toml(config), path = folder.write("config.toml", toml).string();
    app.parse(std::vector<std::string>{path, "--config"});
    file.run(app, [] { return 0; });
    // Empty names and lists are left out, and stand for the defaults; of data and device the default is not empty.
    if (config.data.data.empty() || config.run.device.empty()) return;
    fuzz::expect(read.to_json() == written, "config.json {} became {} by way of {}", written, read.to_json(),
                 toml);
}
