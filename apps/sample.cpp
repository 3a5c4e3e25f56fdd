// ito sample: images from a trained model.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "apps/config_file.h"
#include "apps/image_folder.h"
#include "apps/output_file.h"
#include "apps/terminal.h"
#include "apps/weight_table.h"
#include "core/error.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/png.h"
#include "diffusion/pipeline/pipeline.h"
#include "diffusion/solvers/sampler.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;
using namespace diffusion;

struct SampleCommand {
    std::string run;
    std::int64_t num = 64, first = 0, batch = 64, sampling_steps = 0, columns = 0, upscale = 0, step = 0;
    std::uint64_t seed = 0;
    std::string variance, timestep_spacing, weights = "ema", variant, out = "grid.png", progressive, folder;
    bool force = false;
    Execution execution;
    ConfigFile file;
    CLI::App* app = nullptr;

    int operator()();
    int run_command() const;
    bool given(const char* option) const { return app->count(option) > 0; }
    void check() const;
};

/// The model, the chain of its reverse process, and the progress of the command.
class Sampling {
  public:
    explicit Sampling(const SampleCommand& command);

    const nn::UNetConfig& image() const { return pipeline_.model->config(); }
    std::int64_t steps() const { return process_->size(); }
    const std::string& fingerprint() const { return fingerprint_; }
    const char* variance() const {
        return process_->variance_kind() == VarianceKind::beta ? "beta" : "posterior";
    }
    /// Whether the chain visits every timestep.
    bool full() const { return steps() == pipeline_.scheduler.schedule.timesteps; }
    const char* timestep_spacing() const {
        return full() ? "all" : name_of(pipeline_.scheduler.timestep_spacing);
    }
    std::int64_t steps_offset() const {
        const bool used = !full() && pipeline_.scheduler.timestep_spacing == TimestepSpacing::leading;
        return used ? pipeline_.scheduler.steps_offset : 0;
    }

    /// Prints the chain if it is a short one. `images`: how many will be drawn, for the time left.
    void expect(std::int64_t images) {
        expected_ = images;
        if (!full()) show_chain();
    }
    using OnState = std::function<void(std::int64_t step, std::int64_t first, const Tensor& x)>;
    /// Draws images first, first + 1, ...; none if it is interrupted. Calls `on_state` with x_t after every step.
    std::optional<Tensor> draw(std::int64_t first, std::int64_t count, const OnState& on_state = {});

    double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }
    ProgressLine& progress() { return progress_; }

  private:
    void show_chain();
    void show(std::int64_t step, std::int64_t begin, std::int64_t size);

    const SampleCommand& command_;
    Pipeline pipeline_;
    std::string fingerprint_;
    std::optional<ReverseProcess> process_;
    ProgressLine progress_;
    std::chrono::steady_clock::time_point start_;
    std::int64_t expected_ = 0, made_ = 0;
};

VarianceKind parse_variance(const std::string& text) {
    if (text == "posterior") return VarianceKind::posterior;
    if (text == "beta") return VarianceKind::beta;
    fail("--variance {}: expected posterior or beta", text);
}

TimestepSpacing parse_spacing(const std::string& text) {
    return parse_timestep_spacing(text, "--timestep-spacing");
}

/// Reserves the file. Throws Error at once if the picture could not be written.
std::unique_ptr<OutputFile> open_picture(const char* option, const fs::path& path, bool force) {
    require(path.extension() == ".png", "{} {}: pictures are written as PNG; give a name that ends in .png",
            option, path.string());
    return std::make_unique<OutputFile>(option, path, force, ", or add --force to replace it");
}

/// The files that a sampling into pictures writes.
struct Pictures {
    explicit Pictures(const SampleCommand& c) {
        require(c.progressive.empty() || fs::weakly_canonical(OutputFile::resolve(c.out)) !=
                                             fs::weakly_canonical(OutputFile::resolve(c.progressive)),
                "--progressive {}: is the file of --out too; choose another name", c.progressive);
        images = open_picture("--out", c.out, c.force);
        if (!c.progressive.empty()) progressive = open_picture("--progressive", c.progressive, c.force);
    }
    std::unique_ptr<OutputFile> images, progressive;
};

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
    const std::int64_t most = folder.empty() ? 32768 : ImageFolder::most;
    require(num >= 1 && num <= most, "--num {}: expected 1 to {}{}", num, most,
            folder.empty() ? "; --folder takes more" : "");
    require(first >= 0 && first <= ImageFolder::most - num, "--first {}: expected 0 to {}", first,
            ImageFolder::most - num);
    require(batch >= 1 && batch <= 65536, "--batch {}: expected 1 to 65536", batch);
    require(upscale >= 0 && upscale <= 64, "--upscale {}: expected 0 (automatic) to 64", upscale);
    require(columns >= 0 && columns <= num, "--columns {}: expected 0 (automatic) to {}", columns, num);
    require(sampling_steps >= 0, "--sampling-steps {}: expected 1 or more, or 0 for all", sampling_steps);
    if (given("--variance")) static_cast<void>(parse_variance(variance));
    if (given("--timestep-spacing")) static_cast<void>(parse_spacing(timestep_spacing));
    if (given("--folder")) {
        require(!folder.empty(), "--folder: the name is empty; expected a folder to write to");
        for (const char* option : {"--out", "--progressive", "--columns", "--upscale", "--force"})
            require(!given(option), "{}: is about the picture of all images; with --folder there is none",
                    option);
    }
}

Sampling::Sampling(const SampleCommand& c) : command_(c) {
    const auto set = parse_weight_set(c.weights);
    const Computation computation = c.execution.apply();
    pipeline_ = load_pipeline(
        c.run,
        {.set = set, .step = c.given("--step") ? std::optional(c.step) : std::nullopt, .variant = c.variant});
    require_finite(pipeline_.model->named_parameters(), c.run,
                   c.given("--step") ? "" : inspect_options(set == WeightSet::raw, c.variant));
    fingerprint_ = apps::fingerprint(pipeline_);
    pipeline_.to(computation);
    SchedulerConfig& scheduler = pipeline_.scheduler;
    if (c.given("--variance")) scheduler.variance = parse_variance(c.variance);
    if (c.given("--timestep-spacing")) scheduler.timestep_spacing = parse_spacing(c.timestep_spacing);
    const std::int64_t all = scheduler.schedule.timesteps, steps = c.sampling_steps ? c.sampling_steps : all;
    require(steps <= all, "--sampling-steps {}: expected 1 to {}, the steps of this model", steps, all);
    try {
        process_.emplace(reverse_process(scheduler, steps));
    } catch (const Error& error) {
        fail("--sampling-steps {}: {} (--timestep-spacing)", steps, error.what());
    }
    for (const std::string& note : pipeline_.notes) progress_.print(note);
    start_ = std::chrono::steady_clock::now();
}

/// The pipeline chose the chain if no option did, so the user should see it.
void Sampling::show_chain() {
    const auto chain = process_->transitions();
    const std::string offset = steps_offset() > 0 ? fmt::format(" + {}", steps_offset()) : std::string();
    progress_.print(fmt::format("{} of {} timesteps, {} to {} ({}{}), variance {}", steps(),
                                pipeline_.scheduler.schedule.timesteps, chain.front().t, chain.back().t,
                                timestep_spacing(), offset, variance()));
    if (process_->variance_kind() == VarianceKind::beta)
        progress_.print(
            fmt::format("the variance beta (fixed_large) is meant for all steps: with {} the images stay "
                        "noisy, more so the fewer there are; --variance posterior is for fewer steps",
                        steps()));
}

void Sampling::show(std::int64_t step, std::int64_t begin, std::int64_t size) {
    const double done = static_cast<double>(made_ + begin) +
                        static_cast<double>(size * (step + 1)) / static_cast<double>(steps());
    const double left = seconds() / done * (static_cast<double>(expected_) - done);
    progress_.show(fmt::format("sampling  images {}-{} of {}  step {}/{}  {} left", made_ + begin + 1,
                               made_ + begin + size, expected_, step + 1, steps(), format_duration(left)));
}

std::optional<Tensor> Sampling::draw(std::int64_t first, std::int64_t count, const OnState& on_state) {
    const auto on_step = [&](std::int64_t step, std::int64_t index, const Tensor& x, const Tensor&) {
        if (on_state) on_state(step, index - first, x);
        show(step, index - first, x.dim(0));
        return !interrupted();
    };
    try {
        Tensor images = sample(*pipeline_.model, *process_,
                               {.count = count,
                                .first = first,
                                .batch = command_.batch,
                                .seed = command_.seed,
                                .clip = pipeline_.scheduler.clip(),
                                .compute = pipeline_.compute,
                                .graph = !command_.execution.no_graph,
                                .on_step = on_step});
        made_ += count;
        return images;
    } catch (const Error&) {
        if (!interrupted()) throw;
        return {};
    }
}

/// All images as one picture, and perhaps their way from noise as another.
int draw_picture(const SampleCommand& c, Sampling& sampling, const Pictures& files) {
    const auto& image = sampling.image();
    // Throws now if a picture would be too large, not after the last step.
    const auto layout = [&](std::int64_t count, std::int64_t columns) {
        const GridOptions shape{
            .columns = columns,
            .upscale = c.upscale ? c.upscale : default_upscale(count, image.height, image.width, columns)};
        static_cast<void>(grid_size(count, image.height, image.width, image.in_channels, shape));
        return shape;
    };
    const std::int64_t strip_rows = std::min<std::int64_t>(c.num, 8),
                       strip_columns = std::min<std::int64_t>(sampling.steps(), 12);
    const GridOptions picture = layout(c.num, c.columns),
                      strip_picture = layout(strip_rows * strip_columns, strip_columns);
    Strip strip(strip_rows, strip_columns, sampling.steps());
    sampling.expect(c.num);
    const auto images =
        sampling.draw(c.first, c.num, [&](std::int64_t step, std::int64_t first, const Tensor& x) {
            if (!c.progressive.empty()) strip.record(step, first, x);
        });
    ProgressLine& progress = sampling.progress();
    if (!images) {
        progress.print("interrupted; nothing was written");
        return exit_interrupted;
    }
    const auto pixels = images->to_vector<float>();
    const fs::path grid = files.images->write(encode_png(make_grid(
        std::span<const float>(pixels), c.num, image.height, image.width, image.in_channels, picture)));
    progress.print(fmt::format("{} in {}, {} -> {}", counted(c.num, "image"),
                               counted(sampling.steps(), "step"), format_duration(sampling.seconds()),
                               grid.string()));
    if (!c.progressive.empty()) {
        const fs::path way = files.progressive->write(
            encode_png(strip.image(image.height, image.width, image.in_channels, strip_picture)));
        progress.print(fmt::format("the way from noise to image -> {}", way.string()));
    }
    return 0;
}

/// Every image as its own file, written as soon as its batch is done. Files that exist are not made again.
int draw_folder(const SampleCommand& c, Sampling& sampling) {
    const auto& image = sampling.image();
    require(image.in_channels == 1 || image.in_channels == 3,
            "--folder: the model makes images of {} channels; expected 1 or 3", image.in_channels);
    const ImageFolder folder(
        c.folder,
        {{"model", sampling.fingerprint()},
         {"weights", c.weights},
         {"seed", c.seed},
         {"sampling_steps", sampling.steps()},
         {"variance", sampling.variance()},
         {"timestep_spacing", sampling.timestep_spacing()},
         {"steps_offset", sampling.steps_offset()}},
        // Older versions had only one spacing.
        {{"timestep_spacing", sampling.full() ? "all" : "linspace"}, {"steps_offset", 0}});
    const std::int64_t end = c.first + c.num;
    std::int64_t missing = 0;
    for (std::int64_t i = c.first; i < end; ++i) missing += !folder.has(i);
    sampling.expect(missing);
    ProgressLine& progress = sampling.progress();
    std::int64_t made = 0;
    for (std::int64_t next = c.first; next < end; ++next) {
        if (folder.has(next)) continue;
        std::int64_t count = 1;
        while (count < c.batch && next + count < end && !folder.has(next + count)) ++count;
        const auto images = sampling.draw(next, count);
        if (!images) {
            progress.print(fmt::format("interrupted; {} of {} -> {}, the same command makes the others",
                                       c.num - missing + made, counted(c.num, "image"), c.folder));
            return exit_interrupted;
        }
        for (std::int64_t i = 0; i < count; ++i)
            folder.write(next + i, {image.height, image.width, image.in_channels,
                                    to_pixels(images->slice(0, i, 1).to_vector<float>())});
        made += count;
        next += count - 1;
    }
    progress.print(
        fmt::format("{} in {}, {} -> {}{}", counted(made, "image"), counted(sampling.steps(), "step"),
                    format_duration(sampling.seconds()), c.folder,
                    made == c.num ? std::string() : fmt::format(" ({} there already)", c.num - made)));
    return 0;
}

int SampleCommand::operator()() {
    return file.run(*app, [this] { return run_command(); });
}

int SampleCommand::run_command() const {
    check();
    catch_interrupts();  // before names are reserved, so that they are freed again
    if (!folder.empty()) {
        Sampling sampling(*this);
        return draw_folder(*this, sampling);
    }
    const Pictures files(*this);
    Sampling sampling(*this);
    return draw_picture(*this, sampling, files);
}

}  // namespace

Action add_sample(CLI::App& app) {
    auto command = std::make_shared<SampleCommand>();
    auto& c = *command;
    c.app = &app;
    app.add_option("RUN", c.run, "Run directory, or a folder that diffusers saved")->required();
    app.add_option("--num", c.num, "How many images")->capture_default_str();
    app.add_option("--first", c.first, "Index of the first image")->capture_default_str();
    app.add_option("--seed", c.seed, "Image i depends on (seed, i) alone")
        ->check(check_seed)
        ->capture_default_str();
    app.add_option("--batch", c.batch, "Images computed at once; never changes an image")
        ->capture_default_str();
    app.add_option("--sampling-steps", c.sampling_steps,
                   "Reverse steps, spread evenly over the timesteps; 0 for all")
        ->default_str("all");
    app.add_option("--timestep-spacing", c.timestep_spacing,
                   "How fewer steps are spread: leading, linspace or trailing")
        ->default_str("as RUN says");
    app.add_option("--variance", c.variance,
                   "Variance of a step: posterior, or beta (noisy with fewer steps)")
        ->default_str("as RUN says");
    app.add_option("--weights", c.weights, "ema, or raw")->capture_default_str();
    app.add_option("--variant", c.variant, "Of the weights that diffusers saved, such as fp16");
    app.add_option("--step", c.step, "Of the checkpoint after so many steps; the latest if not given");
    app.add_option("--out", c.out, "The picture: all images as one grid")->capture_default_str();
    app.add_option("--folder", c.folder,
                   "Instead single files, 000000.png ...; goes on where it was stopped");
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
