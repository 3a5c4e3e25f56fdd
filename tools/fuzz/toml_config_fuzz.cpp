// --config FILE, a TOML file of the options of ito train.

#include "apps/config_file.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"
#include "tools/fuzz/train_options.h"

using namespace ito;

ITO_FUZZ_TARGET(toml_config) {
    static const testing::TemporaryFolder folder;
    CLI::App app("", "train");
    const fuzz::TrainOptions options(app);
    apps::ConfigFile file;
    file.add_option(app);
    const std::string path = folder.write("config.toml", fuzz::text_of(input)).string();
    app.parse(std::vector<std::string>{path, "--config"});
    diffusion::TrainConfig config;
    fuzz::accepts([&] {
        file.run(app, [&] {
            config = diffusion::TrainConfig::from_json(options.to_json(app), path);
            return 0;
        });
    });
}
