// A diffusion model in a program of one's own: trains on 8x8 images of bars, saves the run, opens it again, and writes
// a grid of samples. Fails if the loss did not fall. Its argument is the folder to make; `ito sample` opens that too.

#include <cstdio>
#include <string>

#include "core/error.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/png.h"
#include "diffusion/pipeline/pipeline.h"
#include "diffusion/solvers/sampler.h"
#include "diffusion/training/trainer.h"

namespace {

using namespace ito;
using namespace ito::diffusion;

constexpr std::int64_t side = 8;

/// White bars on black, upright or level, of every width. load_dataset() opens files instead.
Dataset bars() {
    Dataset data;
    data.count = 2 * (side - 1), data.height = data.width = side, data.channels = 1;
    for (std::int64_t n = 0; n < data.count; ++n)
        for (std::int64_t y = 0; y < side; ++y)
            for (std::int64_t x = 0; x < side; ++x) data.images.push_back((n % 2 ? x : y) <= n / 2 ? 255 : 0);
    return data;
}

/// Mean loss of the next `count` steps.
double train(Trainer& trainer, int count) {
    for (int i = 0; i < count; ++i) trainer.step();
    return trainer.take_window().mean_loss();
}

void run(const std::string& folder) {
    TrainConfig config;
    config.optimizer.batch = 16;
    config.model.base_channels = 8;
    config.model.channel_mults = {1, 2};
    config.model.layers_per_block = 1;
    config.diffusion.timesteps = 100;
    config.optimizer.lr = 3e-3;
    config.optimizer.ema = 0.95;
    Trainer trainer(config, bars());
    const double before = train(trainer, 10);
    train(trainer, 100);
    const double after = train(trainer, 10);
    require(after < before / 2, "ddpm: the loss only fell from {} to {}", before, after);

    const Run run(folder);
    write_pipeline(run.root(), trainer.unet_config(), config.scheduler());
    trainer.save(run);

    // From here on as a second program would.
    const Pipeline pipeline = load_pipeline(folder);
    const NoiseSchedule schedule(pipeline.scheduler.schedule);
    const ReverseProcess process(schedule, spaced_timesteps(schedule.timesteps(), 20));
    const Tensor images = sample(*pipeline.model, process, {.count = 16, .seed = 1});
    const auto values = images.to_vector<float>();
    write_png(folder + "/samples.png",
              make_grid(std::span<const float>(values), 16, side, side, 1, {.upscale = 8}));
    std::printf("loss %.3f -> %.3f, 16 images in %s/samples.png\n", before, after, folder.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(argc > 1 ? argv[1] : "bars");
    } catch (const Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
