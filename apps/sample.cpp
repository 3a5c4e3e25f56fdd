// ito sample: images from a trained model.

#include <fmt/format.h>

#include "apps/commands.h"
#include "apps/terminal.h"
#include "core/error.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/png.h"
#include "diffusion/run.h"
#include "diffusion/sampler.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;
using namespace diffusion;

struct SampleCommand {
    std::string run;
    std::int64_t num = 64, batch = 64, sampling_steps = 0, columns = 0, upscale = 0;
    std::uint64_t seed = 0;
    std::string variance = "posterior", weights = "ema", out = "grid.png", progressive;
    bool force = false;
    Execution execution;

    int operator()() const;
};

VarianceKind parse_variance(const std::string& text) {
    if (text == "posterior") return VarianceKind::posterior;
    if (text == "beta") return VarianceKind::beta;
    fail("--variance {}: expected posterior or beta", text);
}

/// Refuses a picture that could not be written before any time is spent on it.
void check_output(const fs::path& path, bool force) {
    if (path.empty()) return;
    require(path.extension() == ".png", "--out {}: pictures are written as PNG; give a name that ends in .png",
            path.string());
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    require(fs::is_directory(folder), "{}: the folder does not exist", folder.string());
    require(force || !fs::exists(path), "{}: exists already; choose another name, or add --force to replace it",
            path.string());
}

/// Small images are enlarged so that a person sees them: about 84 pixels a side.
std::int64_t default_upscale(std::int64_t side) { return std::max<std::int64_t>(1, 84 / side); }

/// A picture of sampling over time: one row per image, one column per kept step, noise at the left.
class Strip {
  public:
    Strip(std::int64_t rows, std::int64_t columns, std::int64_t steps) : rows_(rows), columns_(columns), steps_(steps) {}

    std::int64_t rows() const { return rows_; }
    void record(std::int64_t step, std::int64_t first, const Tensor& x) {
        // Column c shows the state after the step nearest to an even division of the chain, the last at its end.
        for (std::int64_t c = 0; c < columns_; ++c) {
            if ((c + 1) * steps_ / columns_ - 1 != step) continue;
            for (std::int64_t n = 0; n < x.dim(0) && first + n < rows_; ++n) {
                const auto pixels = x.slice(0, n, 1).to_vector<float>();
                if (images_.empty()) images_.resize(static_cast<std::size_t>(rows_ * columns_) * pixels.size());
                std::copy(pixels.begin(), pixels.end(),
                          images_.begin() + static_cast<std::ptrdiff_t>(((first + n) * columns_ + c) *
                                                                        static_cast<std::int64_t>(pixels.size())));
            }
        }
    }
    Image image(std::int64_t height, std::int64_t width, std::int64_t channels, std::int64_t upscale) const {
        return make_grid(std::span<const float>(images_), rows_ * columns_, height, width, channels,
                         {.columns = columns_, .upscale = upscale});
    }

  private:
    std::int64_t rows_, columns_, steps_;
    std::vector<float> images_;
};

int SampleCommand::operator()() const {
    require(num >= 1 && num <= 1'000'000, "--num {}: expected 1 to 1000000", num);
    require(batch >= 1 && batch <= 65536, "--batch {}: expected 1 to 65536", batch);
    require(upscale >= 0 && upscale <= 64, "--upscale {}: expected 0 (automatic) to 64", upscale);
    require(columns >= 0 && columns <= num, "--columns {}: expected 0 (automatic) to {}", columns, num);
    check_output(out, force);
    check_output(progressive, force);
    const auto kind = parse_variance(variance);
    execution.apply();

    const Pipeline pipeline = load_pipeline(run, parse_weight_set(weights));
    const auto& config = pipeline.model->config();
    const NoiseSchedule schedule(pipeline.scheduler.schedule);
    const std::int64_t steps = sampling_steps ? sampling_steps : schedule.timesteps();
    require(steps >= 1 && steps <= schedule.timesteps(), "--sampling-steps {}: expected 1 to {}, the steps of this model",
            steps, schedule.timesteps());
    const auto timesteps = spaced_timesteps(schedule.timesteps(), steps, TimestepSpacing::linspace);
    const ReverseProcess process(schedule, timesteps, kind);

    catch_interrupts();
    ProgressLine progress;
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t batches = (num + batch - 1) / batch;
    Strip strip(std::min<std::int64_t>(num, 8), std::min<std::int64_t>(steps, 12), steps);
    const SampleOptions options{
        .count = num, .batch = batch, .seed = seed, .clip = pipeline.scheduler.clip(),
        .on_step = [&](std::int64_t step, std::int64_t first, const Tensor& x, const Tensor&) {
            if (!progressive.empty()) strip.record(step, first, x);
            const std::int64_t done = first / batch * steps + step + 1, total = batches * steps;
            const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
            const double left = elapsed.count() / static_cast<double>(done) * static_cast<double>(total - done);
            progress.show(fmt::format("sampling  image {} of {}  step {}/{}  {} left", std::min(num, first + x.dim(0)), num,
                                      step + 1, steps, format_duration(left)));
            return !interrupted();
        }};
    Tensor images;
    try {
        images = sample(*pipeline.model, process, options);
    } catch (const Error& error) {
        if (!interrupted()) throw;
        progress.print("interrupted; nothing was written");
        return exit_interrupted;
    }
    const std::int64_t scale = upscale ? upscale : default_upscale(std::max(config.height, config.width));
    const auto pixels = images.to_vector<float>();
    write_png(out, make_grid(std::span<const float>(pixels), num, config.height, config.width, config.in_channels,
                             {.columns = columns, .upscale = scale}));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    progress.print(fmt::format("{} images in {} steps, {} -> {}", num, steps, format_duration(elapsed.count()), out));
    if (!progressive.empty()) {
        write_png(progressive, strip.image(config.height, config.width, config.in_channels, scale));
        progress.print(fmt::format("the way from noise to image -> {}", progressive));
    }
    return 0;
}

}  // namespace

Action add_sample(CLI::App& app) {
    auto command = std::make_shared<SampleCommand>();
    auto& c = *command;
    app.add_option("RUN", c.run, "Run directory, or a folder that diffusers saved")->required();
    app.add_option("--num", c.num, "How many images")->capture_default_str();
    app.add_option("--seed", c.seed, "Image i depends on (seed, i) alone")->capture_default_str();
    app.add_option("--batch", c.batch, "Images computed at once; never changes an image")->capture_default_str();
    app.add_option("--sampling-steps", c.sampling_steps,
                   "Reverse steps, evenly spread over the model's timesteps; 0 for all of them")
        ->capture_default_str();
    app.add_option("--variance", c.variance, "Variance of a step: posterior, or beta (only with all steps)")
        ->capture_default_str();
    app.add_option("--weights", c.weights, "ema, or raw")->capture_default_str();
    app.add_option("--out", c.out, "The picture: all images as one grid")->capture_default_str();
    app.add_option("--progressive", c.progressive, "Also a picture of 8 images on their way from noise to image");
    app.add_option("--columns", c.columns, "Columns of the grid, 0 for about a square")->capture_default_str();
    app.add_option("--upscale", c.upscale, "Enlarge each pixel so many times, 0 for automatic")->capture_default_str();
    app.add_flag("--force", c.force, "Replace existing pictures");
    c.execution.add_options(app);
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
