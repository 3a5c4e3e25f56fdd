// ito train: a model from a data set, or on from where a run stopped.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/config_file.h"
#include "apps/figures.h"
#include "apps/metrics_log.h"
#include "apps/terminal.h"
#include "apps/timeline.h"
#include "core/atomic_file.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/error.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/png.h"
#include "diffusion/run_lock.h"
#include "diffusion/tensorboard.h"
#include "diffusion/trainer.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;
using namespace diffusion;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t default_steps = 10000;
constexpr std::int64_t preview_images = 16, preview_steps = 50;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string absolute_path(const std::string& path) {
    const fs::path absolute = fs::absolute(path).lexically_normal();
    return (absolute.has_filename() ? absolute : absolute.parent_path()).string();
}

/// What a resumed training may change.
constexpr std::string_view free_options[] = {"--steps",   "--minutes",      "--device",
                                             "--threads", "--sample-every", "--save-every",
                                             "--keep",    "--data-dir",     "--tensorboard"};

/// What is about to be trained.
std::vector<std::string> description(const TrainConfig& config, Trainer& trainer, const Run& run) {
    const auto& data = trainer.dataset();
    const std::string length = trainer.total_steps() > 0 ? fmt::format("{} steps", trainer.total_steps())
                                                         : fmt::format("{:g} minutes", config.minutes);
    return {fmt::format("data      {}: {} images of {}x{}x{}", config.data, data.count, data.height,
                        data.width, data.channels),
            fmt::format("model     {:.2f} M parameters, {} on {} {}",
                        static_cast<double>(trainer.model().parameter_count()) / 1e6,
                        Execution{config.device, config.threads}.device_text(), threads(),
                        threads() == 1 ? "thread" : "threads"),
            fmt::format("schedule  {} timesteps, prior {:.2g} bits/dim", config.timesteps,
                        trainer.schedule().prior_bits_per_dim(trainer.data_second_moment())),
            fmt::format("training  {} of {} images{}{}", length, trainer.images_per_step(),
                        trainer.steps_done() > 0 ? fmt::format(", on from step {}", trainer.steps_done())
                                                 : std::string(),
                        run.root().empty() ? std::string() : fmt::format(" -> {}", run.root().string()))};
}

/// The loop of one command, with all that it shows and writes on the way.
class Training {
  public:
    Training(const TrainConfig& config, Trainer& trainer, const Run& run, const StepTrace& trace)
        : config_(config),
          trainer_(trainer),
          run_(run),
          trace_(trace),
          metrics_(run.metrics(), trainer.steps_done()) {
        if (config.tensorboard) board_.emplace(run.tensorboard(), trainer.steps_done(), MetricsLog::every);
    }

    /// The exit status.
    int operator()();

  private:
    StepMetrics step();
    [[noreturn]] void end_diverged(const Diverged& error);
    void count(const StepMetrics& done);
    void write_metrics();
    void plan_steps();
    void show(bool last);
    void save();
    bool preview();
    bool figures();

    bool complete() const {
        return trainer_.total_steps() > 0 && trainer_.steps_done() >= trainer_.total_steps();
    }
    bool out_of_time() const { return limit_ > 0 && seconds_since(start_) >= limit_; }
    std::int64_t steps_made() const { return trainer_.steps_done() - first_step_; }
    double seconds_per_step() const {
        // The first step sets up memory and plans, and tells little about the others.
        return steps_made() < 2
                   ? seconds_since(start_)
                   : (seconds_since(second_step_) - paused_) / static_cast<double>(steps_made() - 1);
    }

    const TrainConfig& config_;
    Trainer& trainer_;
    const Run& run_;
    const StepTrace& trace_;
    MetricsLog metrics_;
    std::optional<TensorboardWriter> board_;
    ProgressLine progress_;
    const std::int64_t first_step_ = trainer_.steps_done();
    const Clock::time_point start_ = Clock::now();
    const double limit_ = config_.minutes * 60;
    Clock::time_point second_step_ = start_;
    double paused_ = 0;  // seconds of saving and previews, which do not count as training
    StepMetrics last_;
    double shown_loss_ = 0;
    Clock::time_point speed_start_ = start_;
    std::int64_t speed_steps_ = 0;
    double images_per_second_ = 0;
};

void Training::end_diverged(const Diverged& error) {
    const auto kept = run_.latest_checkpoint();
    fail(
        "{}; {}; ito train --resume {} --anomaly names the op that made it; a lower --lr or --clip 1 may "
        "help",
        error.what(),
        kept ? fmt::format("the checkpoint {} stays", kept->filename().string())
             : std::string("there is no checkpoint yet"),
        run_.root().string());
}

StepMetrics Training::step() {
    try {
        if (!trace_.wanted(steps_made() + 1)) return trainer_.step();
        Timeline timeline;
        const trace::Listen listen(timeline);
        const StepMetrics metrics = trainer_.step();
        progress_.print(trace_.write(timeline, metrics.step));
        return metrics;
    } catch (const Diverged& error) {
        end_diverged(error);
    } catch (const Error& error) {
        if (!autograd::anomaly_mode()) throw;
        fail("step {}: {}", trainer_.steps_done() + 1, error.what());
    }
}

void Training::count(const StepMetrics& done) {
    last_ = done;
    if (steps_made() == 1) second_step_ = Clock::now();
    // A running mean over about the last 50 steps: a single batch's loss says little.
    const double weight = std::max(0.02, 1 / static_cast<double>(steps_made()));
    shown_loss_ += weight * (done.loss - shown_loss_);
    ++speed_steps_;
}

void Training::write_metrics() {
    const auto& window = trainer_.window();
    nlohmann::ordered_json quartiles;
    for (std::int64_t q = 0; q < LossByTimestep::quartiles; ++q) {
        const auto mean = window.by_timestep.mean(q);
        quartiles.push_back(mean ? nlohmann::ordered_json(*mean) : nlohmann::ordered_json());
    }
    metrics_.write({{"step", last_.step},
                    {"loss", window.mean_loss()},
                    {"loss_by_timestep", quartiles},
                    {"grad_norm", window.mean_grad_norm()},
                    {"lr", last_.lr},
                    {"images_per_second", images_per_second_},
                    {"seconds", metrics_.seconds_before() + seconds_since(start_)}});
    if (!board_) return;
    std::vector<std::pair<std::string, double>> scalars{{"train/loss", window.mean_loss()},
                                                        {"train/grad_norm", window.mean_grad_norm()},
                                                        {"train/lr", last_.lr},
                                                        {"train/images_per_second", images_per_second_}};
    for (std::int64_t q = 0; q < LossByTimestep::quartiles; ++q)
        if (const auto mean = window.by_timestep.mean(q))
            scalars.emplace_back(fmt::format("loss_by_timestep/quartile_{}", q + 1), *mean);
    board_->scalars(last_.step, scalars);
}

/// Without --steps the speed at the beginning tells how many fit, so that the learning rate's decay ends with the
/// time.
void Training::plan_steps() {
    if (trainer_.total_steps() > 0) return;
    const double left = limit_ - seconds_since(start_);
    if (steps_made() < 3 || limit_ - left < std::min(0.05 * limit_, 10.0)) return;
    const auto more = static_cast<std::int64_t>(left / seconds_per_step());
    trainer_.set_total_steps(last_.step + std::max<std::int64_t>(more, 0));
    progress_.print(fmt::format("step {}: planned {} steps to fit {:g} minutes", last_.step,
                                trainer_.total_steps(), config_.minutes));
}

void Training::show(bool last) {
    const std::int64_t total = trainer_.total_steps();
    double left = seconds_per_step() * static_cast<double>(total - last_.step);
    if (limit_ > 0) left = std::min(total > 0 ? left : limit_, limit_ - seconds_since(start_));
    progress_.show(fmt::format("step {}/{}  loss {:.4f}  {:.{}f} images/s  {} left", last_.step,
                               total > 0 ? std::to_string(total) : "?", shown_loss_, images_per_second_,
                               images_per_second_ < 10 ? 1 : 0, format_duration(std::max(left, 0.0))),
                   last);
}

void Training::save() {
    try {
        trainer_.save(run_);
    } catch (const Diverged& error) {
        end_diverged(error);
    }
    progress_.print(
        fmt::format("step {}: saved{}", trainer_.steps_done(),
                    steps_made() > 0 ? fmt::format("  loss {:.4f}", shown_loss_) : std::string()));
}

/// False if it was interrupted.
bool Training::preview() {
    const auto& data = trainer_.dataset();
    const std::int64_t side = std::max(data.height, data.width);
    const auto count = std::clamp<std::int64_t>(max_image_pixels / 2 / (side * side), 1, preview_images);
    try {
        const auto pixels =
            trainer_.sample(count, std::min(preview_steps, config_.timesteps), [] { return !interrupted(); })
                .to_vector<float>();
        const fs::path path = run_.samples() / fmt::format("step-{:08}.png", trainer_.steps_done());
        const Image grid =
            make_grid(std::span<const float>(pixels), count, data.height, data.width, data.channels,
                      {.upscale = default_upscale(count, data.height, data.width)});
        write_png(path, grid);
        if (board_) board_->image(trainer_.steps_done(), "samples", grid);
        progress_.print(fmt::format("step {}: samples -> {}", trainer_.steps_done(), path.string()));
    } catch (const Error&) {
        if (!interrupted()) throw;
        return false;
    }
    return true;
}

/// False if it was interrupted. From the weights on the disk: `ito figures` makes the same ones.
bool Training::figures() {
    FigureOptions options;
    options.steps = std::min(options.steps, config_.timesteps);
    const auto real = trainer_.images(figure_images(trainer_.dataset().count, options.images, options.seed));
    return make_figures(run_, load_pipeline(run_.root()), run_.figures(), options, real, progress_);
}

int Training::operator()() {
    for (const std::string& line : description(config_, trainer_, run_)) progress_.print(line);
    while (!complete() && !interrupted() && !out_of_time()) {
        count(step());
        plan_steps();
        const double elapsed = seconds_since(speed_start_);
        const bool line = last_.step % MetricsLog::every == 0;
        if (line || images_per_second_ == 0 || elapsed > 2)
            images_per_second_ = static_cast<double>(speed_steps_ * trainer_.images_per_step()) / elapsed;
        if (line) {
            write_metrics();
            trainer_.window() = {};
            speed_steps_ = 0;
            speed_start_ = Clock::now();
        }
        show(complete());
        if (complete()) break;
        const auto pause = Clock::now();
        if (last_.step % config_.save_every == 0) save();
        if (config_.sample_every > 0 && last_.step % config_.sample_every == 0 && !interrupted()) preview();
        paused_ += seconds_since(pause);
        speed_start_ += Clock::now() - pause;
    }
    const bool stopped = interrupted() && !complete();
    if (!trace_.file.empty() && steps_made() < trace_.step)
        progress_.print(fmt::format("no trace was written: the training ended before step {} of this command",
                                    trace_.step));
    // The steps since the last line; they stay in the checkpoint's window too, for a resumed training's next line.
    if (trainer_.window().steps > 0 && steps_made() > 0) write_metrics();
    if (!complete() && !stopped && trainer_.total_steps() > 0)
        progress_.print(fmt::format("the {:g} minutes are over at step {}/{}", config_.minutes, last_.step,
                                    trainer_.total_steps()));
    save();
    if (stopped) {
        report_training(run_, config_);
        progress_.print(
            fmt::format("interrupted; continue with: ito train --resume {}", run_.root().string()));
        return exit_interrupted;
    }
    const bool whole = preview() && figures();
    report_training(run_, config_);
    progress_.print(fmt::format("{} in {}; look at {}, sample with: ito sample {}",
                                whole ? "done" : "trained, pictures interrupted,",
                                format_duration(seconds_since(start_)),
                                (run_.root() / "report.html").string(), run_.root().string()));
    return whole ? 0 : exit_interrupted;
}

struct TrainCommand {
    TrainConfig config;
    std::string out, resume;
    bool anomaly = false, dry_run = false;
    StepTrace trace;
    ConfigFile file;
    CLI::App* app = nullptr;
    std::optional<RunLock> lock;

    int operator()();

  private:
    int run_command();
    bool given(const char* option) const { return app->count(option) > 0; }
    Run new_run();
    Run open_run();
    void begin(const Run& run);
    void write_config(const Run& run) const;
    void continue_from(const Run& run, Trainer& trainer);
};

Run TrainCommand::new_run() {
    require(!out.empty() || dry_run, "--out is missing: the folder that the run is written to");
    if (config.steps == 0 && config.minutes == 0) config.steps = default_steps;
    const Run run(out);
    require(!run.exists(),
            "--out {}: holds a run already; continue it with --resume {}, or choose another folder", out,
            out);
    require(run.vacant(), "--out {}: exists and is not an empty folder; choose another", out);
    return run;
}

Run TrainCommand::open_run() {
    const Run run(resume);
    require(out.empty() || out == resume, "--out {}: --resume goes on in {}; give one of them", out, resume);
    require(run.exists(), "--resume {}: not a run of ito train ({} is missing)", resume,
            run.config().string());
    lock.emplace(run.lock(), run.root());
    TrainConfig saved = TrainConfig::from_json(read_text(run.config()), run.config().string());
    const auto fixed = nlohmann::json::parse(saved.to_json()),
               wanted = nlohmann::json::parse(config.to_json());
    for (const auto& [field, value] : fixed.items()) {
        std::string option = "--" + field;
        std::replace(option.begin(), option.end(), '_', '-');
        if (std::find(std::begin(free_options), std::end(free_options), option) != std::end(free_options))
            continue;
        require(!given(option.c_str()) || wanted.at(field) == value,
                "{} {}: the run was trained with {}; a resumed training keeps it", option,
                wanted.at(field).dump(), value.dump());
    }
    if (given("--steps")) saved.steps = config.steps;
    // A time limit holds for one command. A run that has no other end keeps it until its steps are planned.
    if (given("--minutes") || saved.steps > 0) saved.minutes = config.minutes;
    if (given("--device")) saved.device = config.device;
    if (given("--threads")) saved.threads = config.threads;
    if (given("--sample-every")) saved.sample_every = config.sample_every;
    if (given("--save-every")) saved.save_every = config.save_every;
    if (given("--keep")) saved.keep = config.keep;
    if (given("--data-dir")) saved.data_dir = config.data_dir;
    if (given("--tensorboard")) saved.tensorboard = config.tensorboard;
    config = saved;
    return run;
}

void TrainCommand::continue_from(const Run& run, Trainer& trainer) {
    if (const auto checkpoint = run.latest_checkpoint()) trainer.load(*checkpoint);
    if (config.steps > 0) {
        trainer.set_total_steps(config.steps);
    } else if (trainer.total_steps() > 0) {
        config.steps = trainer.total_steps();  // as planned from --minutes
        if (!given("--minutes")) config.minutes = 0;
    }
    require(trainer.total_steps() == 0 || trainer.steps_done() < trainer.total_steps(),
            "--resume {}: is trained for {} steps already; give --steps more than that to go on", resume,
            trainer.steps_done());
}

/// Makes the folder of a new run.
void TrainCommand::begin(const Run& run) {
    make_folder(run.root());
    lock.emplace(run.lock(), run.root());
    require(run.vacant(), "--out {}: another process began a run there just now; choose another folder", out);
}

/// Both forms of the options. config.json comes first: from there on the folder is a run.
void TrainCommand::write_config(const Run& run) const {
    write_file_atomically(run.config(), config.to_json());
    write_file_atomically(
        run.config_toml(),
        fmt::format(
            "# Every option of this run. The same training again: ito train --config {} --out NEW\n{}",
            run.config_toml().filename().string(), to_toml(config.to_json())));
}

int TrainCommand::operator()() {
    return file.run(*app, [this] { return run_command(); });
}

int TrainCommand::run_command() {
    require(!given("--steps") || config.steps > 0, "--steps {}: expected 1 or more", config.steps);
    config.validate();
    // Kept as an absolute path: the run can be continued from another folder.
    if (!is_dataset_name(config.data) && fs::is_directory(config.data))
        config.data = absolute_path(config.data);
    if (!config.data_dir.empty()) config.data_dir = absolute_path(config.data_dir);
    const Run run = given("--resume") ? open_run() : new_run();
    Execution{config.device, config.threads}.apply();

    Trainer trainer(
        config, load_dataset(config.data, {.data_dir = config.data_dir, .image_size = config.image_size}));
    if (given("--resume")) continue_from(run, trainer);
    trace.check(trainer.total_steps() > 0 ? trainer.total_steps() - trainer.steps_done() : 0);
    if (dry_run) {
        for (const std::string& line : description(config, trainer, run)) fmt::print("# {}\n", line);
        fmt::print("{}", to_toml(config.to_json()));
        require(std::fflush(stdout) == 0, "--dry-run: standard output cannot be written");
        return 0;
    }
    autograd::set_anomaly_mode(anomaly);
    if (!given("--resume")) begin(run);
    run.remove_abandoned_files();
    write_config(run);
    make_folder(run.samples());
    make_folder(run.trainer());
    run.write_pipeline(trainer.unet_config(), config.scheduler());
    catch_interrupts();
    return Training(config, trainer, run, trace)();
}

void add_options(CLI::App& app, TrainCommand& c) {
    auto& o = c.config;
    c.app = &app;
    app.add_option("--data", o.data, "fashion-mnist, mnist, cifar10, or a folder of images")
        ->capture_default_str();
    app.add_option("--data-dir", o.data_dir, "Folder with the files of mnist or cifar10");
    app.add_option("--image-size", o.image_size, "Scale and crop to this side, 0 for as they are")
        ->capture_default_str();
    app.add_flag("--flip", o.flip, "Mirror half of the images left-right");
    app.add_option("--out", c.out, "Run directory to create");
    app.add_option("--resume", c.resume, "Run directory to continue");
    app.add_option("--steps", o.steps, "Steps in total, also on resume; with --minutes alone what fits")
        ->default_str(std::to_string(default_steps));
    app.add_option("--minutes", o.minutes, "Stop after so many minutes, 0 for no limit")
        ->capture_default_str();
    app.add_option("--batch", o.batch, "Images of one forward pass")->capture_default_str();
    app.add_option("--grad-accum", o.grad_accum, "Forward passes of one step")->capture_default_str();
    app.add_option("--base-channels", o.base_channels, "Channels of the first level")->capture_default_str();
    app.add_option("--channel-mults", o.channel_mults, "Channels of each level, in base channels")
        ->delimiter(',')
        ->default_str("1,2,2");
    app.add_option("--layers-per-block", o.layers_per_block, "Residual blocks of each level")
        ->capture_default_str();
    app.add_option("--attention-resolutions", o.attention_resolutions,
                   "Sides; default half the image size (14 for 28x28), 0: only the middle")
        ->delimiter(',');
    app.add_option("--heads", o.heads, "Attention heads")->capture_default_str();
    app.add_option("--norm-groups", o.norm_groups,
                   "GroupNorm groups, 0 for one per 4 base channels, at most 32")
        ->capture_default_str();
    app.add_option("--dropout", o.dropout, "Probability in the residual blocks")->capture_default_str();
    app.add_option("--timesteps", o.timesteps, "T, the length of the noise schedule")->capture_default_str();
    app.add_option("--beta-start", o.beta_start, "First beta of the linear schedule")->capture_default_str();
    app.add_option("--beta-end", o.beta_end, "Last beta of the linear schedule")->capture_default_str();
    app.add_option("--lr", o.lr, "Learning rate (its peak)")->capture_default_str();
    app.add_option("--lr-schedule", o.lr_schedule, "constant, linear or cosine (to 0 at the last step)")
        ->capture_default_str();
    app.add_option("--warmup", o.warmup, "Steps over which the learning rate rises")->capture_default_str();
    app.add_option("--clip", o.clip, "Largest global gradient norm, 0 for no clipping")
        ->capture_default_str();
    app.add_option("--weight-decay", o.weight_decay, "AdamW's; 0 is plain Adam")->capture_default_str();
    app.add_option("--ema", o.ema, "Decay of the weights' moving average")->capture_default_str();
    app.add_option("--seed", o.seed, "Same seed, same bits, for any number of threads")
        ->check(check_seed)
        ->capture_default_str();
    app.add_option("--device", o.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
    app.add_option("--threads", o.threads, "CPU threads, 0 for all; never changes a result")
        ->capture_default_str();
    app.add_option("--precision", o.precision, "float32")->capture_default_str();
    app.add_option("--sample-every", o.sample_every, "Steps between sample grids, 0 for one at the end")
        ->capture_default_str();
    app.add_option("--save-every", o.save_every, "Steps between checkpoints")->capture_default_str();
    app.add_option("--keep", o.keep, "Checkpoints that stay, the latest")->capture_default_str();
    app.add_flag("--tensorboard", o.tensorboard, "Also write event files for TensorBoard: RUN/tensorboard");
    app.add_flag("--anomaly", c.anomaly, "Stop at the first NaN or infinity and name its op; slow");
    app.add_flag("--dry-run", c.dry_run, "Check and print what would be trained, and end");
    app.add_option("--trace", c.trace.file, "Timeline of one step, a JSON file that Perfetto opens");
    app.add_option("--trace-step", c.trace.step, "Which step of this command; the first ones are slower")
        ->capture_default_str();
    c.file.add_option(app);
}

}  // namespace

TrainConfig read_train_config(const std::string& file) {
    CLI::App app("", "train");
    TrainCommand command;
    add_options(app, command);
    app.parse(std::vector<std::string>{file, "--config"});  // CLI11 takes them from the back
    command.file.run(app, [&] {
        command.config.validate();
        return 0;
    });
    return command.config;
}

Action add_train(CLI::App& app) {
    auto command = std::make_shared<TrainCommand>();
    add_options(app, *command);
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
