// --config FILE, a TOML file of the options of ito train.

#include "apps/config_file.h"
#include "apps/train_options.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(toml_config) {
    static const testing::TemporaryFolder folder;
    CLI::App app("", "train");
    diffusion::TrainConfig config;
    apps::add_train_options(app, config);
    apps::ConfigFile file;
    file.add_option(app);
    const std::string path = folder.write("config.toml", fuzz::text_of(input)).string();
    app.parse(std::vector<std::string>{path, "--config"});
    fuzz::accepts([&] {
        file.run(app, [&] {
            config.validate();
            return 0;
        });
    });
}
