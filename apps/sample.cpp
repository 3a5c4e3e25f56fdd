// ito sample: images from a trained model.

#include <fmt/format.h>

#include "apps/commands.h"
#include "apps/config_file.h"
#include "apps/output_file.h"
#include "apps/terminal.h"
#include "apps/weight_table.h"
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
    ConfigFile file;
    CLI::App* app = nullptr;

    int operator()();
    int run_command() const;
    void check() const;
};

VarianceKind parse_variance(const std::string& text) {
    if (text == "posterior") return VarianceKind::posterior;
    if (text == "beta") return VarianceKind::beta;
    fail("--variance {}: expected posterior or beta", text);
}

/// Refuses a picture that could not be written before any time is spent on it.
void check_output(const char* option, const fs::path& path, bool force) {
    require(path.extension() == ".png", "{} {}: pictures are written as PNG; give a name that ends in .png",
            option, path.string());
    check_output_file(option, path, force, ", or add --force to replace it");
}

/// A picture of sampling over time: one row per image, one column per kept step, noise at the left.
class Strip {
  public:
    Strip(std::int64_t rows, std::int64_t columns, std::int64_t steps)
        : rows_(rows), columns_(columns), steps_(steps) {}

    void record(std::int64_t step, std::int64_t first, const Tensor& x) {
        // Column c shows the state after the step nearest to an even division of the chain, the last at its end.
        for (std::int64_t c = 0; c < columns_; ++c) {
            if ((c + 1) * steps_ / columns_ - 1 != step) continue;
            for (std::int64_t n = 0; n < x.dim(0) && first + n < rows_; ++n) {
                const auto pixels = x.slice(0, n, 1).to_vector<float>();
                if (images_.empty())
                    images_.resize(static_cast<std::size_t>(rows_ * columns_) * pixels.size());
                std::copy(
                    pixels.begin(), pixels.end(),
                    images_.begin() + static_cast<std::ptrdiff_t>(((first + n) * columns_ + c) *
                                                                  static_cast<std::int64_t>(pixels.size())));
            }
        }
    }
    Image image(std::int64_t height, std::int64_t width, std::int64_t channels,
                const GridOptions& options) const {
        return make_grid(std::span<const float>(images_), rows_ * columns_, height, width, channels, options);
    }

  private:
    std::int64_t rows_, columns_, steps_;
    std::vector<float> images_;
};

void SampleCommand::check() const {
    require(num >= 1 && num <= 32768, "--num {}: expected 1 to 32768", num);
    require(batch >= 1 && batch <= 65536, "--batch {}: expected 1 to 65536", batch);
    require(upscale >= 0 && upscale <= 64, "--upscale {}: expected 0 (automatic) to 64", upscale);
    require(columns >= 0 && columns <= num, "--columns {}: expected 0 (automatic) to {}", columns, num);
    require(sampling_steps >= 0, "--sampling-steps {}: expected 1 or more, or 0 for all", sampling_steps);
    check_output("--out", out, force);
    if (progressive.empty()) return;
    check_output("--progressive", progressive, force);
    require(fs::weakly_canonical(out) != fs::weakly_canonical(progressive),
            "--progressive {}: is the file of --out too; choose another name", progressive);
}

int SampleCommand::operator()() {
    return file.run(*app, [this] { return run_command(); });
}

int SampleCommand::run_command() const {
    check();
    auto kind = parse_variance(variance);
    const auto set = parse_weight_set(weights);
    execution.apply();

    const Pipeline pipeline = load_pipeline(run, set);
    require_finite(pipeline.model->named_parameters(), run,
                   set == WeightSet::raw ? "--weights --raw" : "--weights");
    const auto& config = pipeline.model->config();
    const NoiseSchedule schedule(pipeline.scheduler.schedule);
    const std::int64_t steps = sampling_steps ? sampling_steps : schedule.timesteps();
    require(steps >= 1 && steps <= schedule.timesteps(),
            "--sampling-steps {}: expected 1 to {}, the steps of this model", steps, schedule.timesteps());
    // The scheduler's own choice counts where nothing else was asked for, and where it can work.
    if (app->count("--variance") == 0 && steps == schedule.timesteps()) kind = pipeline.scheduler.variance;
    require(kind != VarianceKind::beta || steps == schedule.timesteps(),
            "--variance beta: needs all {} steps, with {} the images stay noisy; use --variance posterior",
            schedule.timesteps(), steps);
    // The pictures' sizes are refused now, not after the last step.
    const std::int64_t strip_rows = std::min<std::int64_t>(num, 8),
                       strip_columns = std::min<std::int64_t>(steps, 12);
    const auto grid = [&](std::int64_t count, std::int64_t width) {
        const GridOptions shape{
            .columns = width,
            .upscale = upscale ? upscale : default_upscale(count, config.height, config.width, width)};
        static_cast<void>(grid_size(count, config.height, config.width, config.in_channels, shape));
        return shape;
    };
    const GridOptions picture = grid(num, columns),
                      strip_picture = grid(strip_rows * strip_columns, strip_columns);
    const auto timesteps = spaced_timesteps(schedule.timesteps(), steps, TimestepSpacing::linspace);
    const ReverseProcess process(schedule, timesteps, kind);

    catch_interrupts();
    ProgressLine progress;
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t batches = (num + batch - 1) / batch;
    Strip strip(strip_rows, strip_columns, steps);
    const SampleOptions options{
        .count = num,
        .batch = batch,
        .seed = seed,
        .clip = pipeline.scheduler.clip(),
        .on_step = [&](std::int64_t step, std::int64_t first, const Tensor& x, const Tensor&) {
            if (!progressive.empty()) strip.record(step, first, x);
            const std::int64_t done = first / batch * steps + step + 1, total = batches * steps;
            const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
            const double left =
                elapsed.count() / static_cast<double>(done) * static_cast<double>(total - done);
            progress.show(fmt::format("sampling  images {}-{} of {}  step {}/{}  {} left", first + 1,
                                      first + x.dim(0), num, step + 1, steps, format_duration(left)));
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
    const auto pixels = images.to_vector<float>();
    write_png(out, make_grid(std::span<const float>(pixels), num, config.height, config.width,
                             config.in_channels, picture));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    progress.print(
        fmt::format("{} images in {} steps, {} -> {}", num, steps, format_duration(elapsed.count()), out));
    if (!progressive.empty()) {
        write_png(progressive, strip.image(config.height, config.width, config.in_channels, strip_picture));
        progress.print(fmt::format("the way from noise to image -> {}", progressive));
    }
    return 0;
}

}  // namespace

Action add_sample(CLI::App& app) {
    auto command = std::make_shared<SampleCommand>();
    auto& c = *command;
    c.app = &app;
    app.add_option("RUN", c.run, "Run directory, or a folder that diffusers saved")->required();
    app.add_option("--num", c.num, "How many images")->capture_default_str();
    app.add_option("--seed", c.seed, "Image i depends on (seed, i) alone")
        ->check(check_seed)
        ->capture_default_str();
    app.add_option("--batch", c.batch, "Images computed at once; never changes an image")
        ->capture_default_str();
    app.add_option("--sampling-steps", c.sampling_steps,
                   "Reverse steps, spread evenly over the timesteps; 0 for all")
        ->default_str("all, 1000");
    app.add_option("--variance", c.variance, "Variance of a step: posterior, or beta (all steps only)")
        ->capture_default_str();
    app.add_option("--weights", c.weights, "ema, or raw")->capture_default_str();
    app.add_option("--out", c.out, "The picture: all images as one grid")->capture_default_str();
    app.add_option("--progressive", c.progressive,
                   "Also a picture of 8 images on their way from noise to image");
    app.add_option("--columns", c.columns, "Columns of the grid, 0 for about a square")
        ->capture_default_str();
    app.add_option("--upscale", c.upscale, "Enlarge each pixel so many times, 0 for automatic")
        ->capture_default_str();
    app.add_flag("--force", c.force, "Replace existing pictures");
    c.execution.add_options(app);
    c.file.add_option(app);
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
