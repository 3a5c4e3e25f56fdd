// ito figures: pictures of the forward and the reverse process, real beside generated images, the loss.

#include "apps/figures.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "apps/config_file.h"
#include "apps/machine.h"
#include "apps/output_file.h"
#include "apps/train_options.h"
#include "apps/version.h"
#include "apps/weight_table.h"
#include "core/context.h"
#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/system.h"
#include "core/io/text_file.h"
#include "diffusion/image/png.h"
#include "diffusion/report/curves.h"
#include "diffusion/report/report.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;
using namespace diffusion;

constexpr const char* figure_names[] = {"forward.png", "progressive.png", "comparison.png", "loss.svg",
                                        "loss_by_timestep.svg"};

struct FiguresCommand {
    std::string run, out, data, data_dir, variant;
    FigureOptions options;
    bool force = false;
    Execution execution;
    ConfigFile file;
    CLI::App* app = nullptr;

    int operator()();

  private:
    int run_command();
    bool given(const char* option) const { return app->count(option) > 0; }
    fs::path output() const;
    std::optional<Dataset> real_images(const nn::UNetConfig& model, ProgressLine& progress);
};

/// The folder to write to. Throws Error at once if that cannot work.
fs::path FiguresCommand::output() const {
    const fs::path folder = given("--out") ? fs::path(out) : Run(run).figures();
    std::error_code ignored;
    require(!fs::exists(folder, ignored) || fs::is_directory(folder, ignored), "--out {}: is not a folder",
            folder.string());
    const std::string why = why_no_folder(folder);
    require(why.empty(), "{}: files cannot be made there: {}; choose a folder with --out", folder.string(),
            why);
    return folder;
}

/// Reserves the names of the figures in a folder outside the run until they are written. In the run's own folder they were made
/// from the run, and may be replaced.
class FigureNames {
  public:
    FigureNames(fs::path folder, bool force)
        : folder_(std::move(folder)), made_(fs::create_directories(folder_)) {
        for (const char* name : figure_names)
            taken_.push_back(std::make_unique<OutputFile>("--out", folder_ / name, force,
                                                          ", or add --force to replace it"));
    }
    ~FigureNames() {
        taken_.clear();
        std::error_code ignored;
        if (made_) fs::remove(folder_, ignored);  // if it is empty
    }
    FigureNames(const FigureNames&) = delete;
    FigureNames& operator=(const FigureNames&) = delete;

  private:
    fs::path folder_;
    bool made_;
    std::vector<std::unique_ptr<OutputFile>> taken_;
};

/// From the data set that was asked for, or that the run was trained on. If the latter is gone, the other figures can still be
/// made.
std::optional<Dataset> FiguresCommand::real_images(const nn::UNetConfig& model, ProgressLine& progress) {
    constexpr const char* missing = "no forward.png and no comparison.png: {}; give the data set with --data";
    const bool is_run = fs::exists(fs::path(run) / "unet" / "config.json") && Run(run).exists();
    if (!given("--data")) {
        if (!is_run) {
            progress.print(fmt::format(missing, "no run of ito train, so its data set is unknown"));
            return {};
        }
        const TrainConfig config =
            TrainConfig::from_json(read_json_text(Run(run).config()), Run(run).config().string());
        data = config.data.data;
        if (!given("--data-dir")) data_dir = config.data.data_dir;
    }
    try {
        Dataset all = load_dataset(data, {.data_dir = data_dir,
                                          .image_size = model.height == model.width ? model.height : 0,
                                          .skip_broken = true});  // a few images are enough
        for (const std::string& note : all.notes)
            progress.print(fmt::format("note      {}", in_options(note)));
        all = with_channels(std::move(all), model.in_channels);
        require(all.height == model.height && all.width == model.width && all.channels == model.in_channels,
                "--data {}: images of {}x{}x{}, the model makes {}x{}x{}", data, all.height, all.width,
                all.channels, model.height, model.width, model.in_channels);
        return select(all, figure_images(all.count, options.images, options.seed));
    } catch (const Error& error) {
        if (given("--data")) throw;
        progress.print(fmt::format(missing, in_options(error.what())));
        return {};
    }
}

int FiguresCommand::operator()() {
    return file.run(*app, [this] { return run_command(); });
}

int FiguresCommand::run_command() {
    require(options.images >= 1 && options.images <= 256, "--images {}: expected 1 to 256", options.images);
    require(options.steps >= 0, "--steps {}: expected 1 or more, or 0 for all", options.steps);
    const Computation computation = execution.apply();
    Pipeline pipeline = load_pipeline(run, {.variant = variant});
    require_finite(pipeline.model->named_parameters(), run, inspect_options(false, variant));
    pipeline.to(computation);
    options.graph = !execution.no_graph;
    const std::int64_t timesteps = pipeline.scheduler.schedule.timesteps;
    require(!given("--steps") || options.steps <= timesteps,
            "--steps {}: expected at most {}, the steps of this model", options.steps, timesteps);
    options.steps = std::min(options.steps, timesteps);
    const fs::path folder = output();
    catch_interrupts();  // before names are reserved, so that they are freed again
    std::optional<FigureNames> names;
    if (given("--out") && fs::weakly_canonical(folder) != fs::weakly_canonical(Run(run).figures()))
        names.emplace(folder, force);
    ProgressLine progress;
    for (const std::string& note : pipeline.notes) progress.print(note);
    const auto real = real_images(pipeline.model->config(), progress);
    if (make_figures(Run(run), pipeline, folder, options, real, progress)) return 0;
    progress.print("interrupted; no figure was written");
    return exit_interrupted;
}

}  // namespace

bool make_figures(const Run& run, const Pipeline& pipeline, const fs::path& out, FigureOptions options,
                  const std::optional<Dataset>& real, ProgressLine& progress) {
    const auto start = std::chrono::steady_clock::now();
    options.on_step = [&](std::int64_t step, std::int64_t steps) {
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        const double left = elapsed.count() / static_cast<double>(step) * static_cast<double>(steps - step);
        progress.show(fmt::format("figures  step {}/{}  {} left", step, steps, format_duration(left)));
        return !interrupted();
    };
    const bool log = fs::exists(run.metrics());
    std::vector<std::pair<std::string, std::string>> plots;
    if (log) {
        const std::vector<MetricsLine> lines = read_metrics(run.metrics());
        plots = {{"loss.svg", to_svg_file(loss_plot(lines))},
                 {"loss_by_timestep.svg", to_svg_file(timestep_loss_plot(lines))}};
        std::erase_if(plots, [](const auto& plot) { return plot.second.empty(); });
    }
    std::vector<std::pair<std::string, Image>> pictures;
    try {
        if (real)
            pictures.emplace_back(
                "forward.png",
                forward_figure(*real, NoiseSchedule(pipeline.scheduler.schedule), options.seed));
        const ReverseFigures generated = reverse_figures(pipeline, options);
        pictures.emplace_back("progressive.png", generated.progressive);
        if (real) pictures.emplace_back("comparison.png", comparison_figure(*real, generated));
    } catch (const Error&) {
        if (!interrupted()) throw;
        return false;
    }
    make_folder(out);
    std::vector<std::string> names;
    for (const auto& [name, image] : pictures) {
        write_png(out / name, image);
        names.push_back(name);
    }
    for (const auto& [name, svg] : plots) {
        write_file_atomically(out / name, svg);
        names.push_back(name);
    }
    if (plots.empty())
        progress.print(
            fmt::format("no loss.svg: {}", log ? "the training was too short for a curve"
                                               : "there is no record of a training (metrics.jsonl)"));
    progress.print(fmt::format("figures -> {}: {}", out.string(), fmt::join(names, ", ")));
    return true;
}

void report_training(const Run& run, const TrainConfig& config) {
    constexpr double gib = 1 << 30;
    write_report(run,
                 {{"processor", processor_name()},
                  {"threads", fmt::format("{} of {} processors", threads(), online_processors())},
                  {"memory", fmt::format("{:.1f} GiB", static_cast<double>(system::memory().total) / gib)},
                  {"device", Execution{config.run.device, config.run.threads, config.run.precision}.text()},
                  {"instruction set", instruction_set_line()},
                  {"version", version_line()},
                  {"build", build_line()},
                  {"libraries", libraries_line()}});
}

Action add_figures(CLI::App& app) {
    auto command = std::make_shared<FiguresCommand>();
    auto& c = *command;
    c.app = &app;
    app.add_option("RUN", c.run, "Run directory, or a folder that diffusers saved")->required();
    app.add_option("--variant", c.variant, "Of the weights that diffusers saved, such as fp16");
    app.add_option("--out", c.out, "Folder to write to")->default_str("RUN/figures");
    app.add_option("--images", c.options.images, "Generated images, and as many real ones beside them")
        ->capture_default_str();
    app.add_option("--steps", c.options.steps, "Reverse steps, spread evenly over the timesteps; 0 for all")
        ->capture_default_str();
    app.add_option("--seed", c.options.seed, "Same seed, same figures")
        ->check(check_seed)
        ->capture_default_str();
    app.add_option("--data", c.data, "Real images: fashion-mnist, mnist, cifar10, or a folder")
        ->default_str("as trained");
    add_train_option(app, "--data-dir", c.data_dir);
    app.add_flag("--force", c.force, "Replace figures in the folder of --out");
    c.execution.add_options(app);
    c.file.add_option(app);
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
