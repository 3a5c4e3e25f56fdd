// ito train: a model from a data set, or on from where a run stopped.

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/terminal.h"
#include "core/atomic_file.h"
#include "core/context.h"
#include "core/error.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/png.h"
#include "diffusion/trainer.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;
using namespace diffusion;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t log_every = 10;  // steps that one line of metrics.jsonl sums up
constexpr std::int64_t preview_images = 16, preview_steps = 50;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct TrainCommand {
    TrainConfig config;
    std::string out, resume;
    const CLI::App* app = nullptr;

    int operator()();

  private:
    Run open_run();
};

/// metrics.jsonl: appended to, after dropping what a crash left behind the checkpoint.
class MetricsLog {
  public:
    MetricsLog(const fs::path& path, std::int64_t steps_done) {
        if (fs::exists(path)) {
            std::istringstream lines(read_text(path));
            std::string kept;
            for (std::string line; std::getline(lines, line);) {
                const auto json = nlohmann::json::parse(line, nullptr, false);
                if (json.is_object() && json.value("step", std::int64_t{-1}) <= steps_done) kept += line + "\n";
            }
            write_file_atomically(path, kept);
        }
        file_.open(path, std::ios::app);
        require(file_.is_open(), "{}: cannot be opened for writing", path.string());
    }

    void write(const nlohmann::ordered_json& line) {
        file_ << line.dump() << "\n" << std::flush;
        require(file_.good(), "metrics.jsonl: writing failed; is the disk full?");
    }

  private:
    std::ofstream file_;
};

Run TrainCommand::open_run() {
    if (resume.empty()) {
        require(!out.empty(), "train: --out RUN is missing: the folder that the run is written to");
        const Run run(out);
        require(!run.exists(), "{}: holds a run already; continue it with --resume {}, or choose another --out", out, out);
        std::error_code error;
        require(!fs::exists(out) || (fs::is_directory(out) && fs::is_empty(out, error)),
                "{}: exists and is not an empty folder; choose another --out", out);
        return run;
    }
    const Run run(resume);
    require(out.empty() || out == resume, "train: --resume continues {}; --out {} names another folder", resume, out);
    require(run.exists(), "{}: not a run of ito train (config.json is missing)", resume);
    TrainConfig saved = TrainConfig::from_json(read_text(run.config()), run.config().string());
    // What was given on the command line and may change; everything else stays as the run has it.
    const auto given = [&](const char* name) { return app->count(name) > 0; };
    if (given("--steps")) saved.steps = config.steps;
    saved.minutes = given("--minutes") ? config.minutes : 0;
    if (given("--device")) saved.device = config.device;
    if (given("--threads")) saved.threads = config.threads;
    if (given("--sample-every")) saved.sample_every = config.sample_every;
    if (given("--save-every")) saved.save_every = config.save_every;
    if (given("--data-dir")) saved.data_dir = config.data_dir;
    const auto fixed = nlohmann::json::parse(saved.to_json()), wanted = nlohmann::json::parse(config.to_json());
    for (const auto& [field, value] : fixed.items()) {
        std::string option = "--" + field;
        std::replace(option.begin(), option.end(), '_', '-');
        const bool may_change = option == "--steps" || option == "--minutes" || option == "--device" ||
                                option == "--threads" || option == "--sample-every" || option == "--save-every" ||
                                option == "--data-dir";
        require(may_change || !given(option.c_str()) || wanted.at(field) == value,
                "{} {}: the run was trained with {}; a resumed training keeps it", option, wanted.at(field).dump(),
                value.dump());
    }
    config = saved;
    return run;
}

int TrainCommand::operator()() {
    if (resume.empty() && config.steps == 0 && config.minutes == 0) config.steps = 10000;
    const Run run = open_run();
    config.validate();
    Execution{config.device, config.threads}.apply();

    Trainer trainer(config, load_dataset(config.data, {.data_dir = config.data_dir, .image_size = config.image_size}));
    if (!resume.empty()) {
        if (const auto checkpoint = run.latest_checkpoint()) trainer.load(*checkpoint);
        if (config.steps > 0) trainer.set_total_steps(config.steps);
        require(trainer.total_steps() == 0 || trainer.steps_done() < trainer.total_steps(),
                "{}: already trained for {} steps; give --steps more than that to go on", resume, trainer.steps_done());
    }
    make_folder(run.samples());
    make_folder(run.trainer());
    run.write_pipeline(trainer.unet_config(), config.scheduler());
    write_file_atomically(run.config(), config.to_json());
    MetricsLog metrics(run.metrics(), trainer.steps_done());

    catch_interrupts();
    ProgressLine progress;
    const auto& data = trainer.dataset();
    progress.print(fmt::format("data     {}: {} images of {}x{}x{}", config.data, data.count, data.height, data.width,
                               data.channels));
    progress.print(fmt::format("model    {:.2f} M parameters, {} on {} threads",
                               static_cast<double>(trainer.model().parameter_count()) / 1e6,
                               to_string(Device::parse(config.device)), threads()));
    progress.print(fmt::format("schedule {} timesteps, prior {:.2g} bits/dim", config.timesteps,
                               trainer.schedule().prior_bits_per_dim(trainer.data_second_moment())));
    if (trainer.steps_done() > 0) progress.print(fmt::format("resume   after step {}", trainer.steps_done()));

    const auto save = [&] {
        trainer.save(run);
        progress.print(fmt::format("step {}: saved", trainer.steps_done()));
    };
    const auto preview = [&] {
        const auto steps = std::min(preview_steps, config.timesteps);
        const auto pixels = trainer.sample(preview_images, steps, [] { return !interrupted(); }).to_vector<float>();
        const fs::path path = run.samples() / fmt::format("step-{:08}.png", trainer.steps_done());
        write_png(path, make_grid(std::span<const float>(pixels), preview_images, data.height, data.width, data.channels,
                                  {.upscale = std::max<std::int64_t>(1, 84 / std::max(data.height, data.width))}));
        progress.print(fmt::format("step {}: samples -> {}", trainer.steps_done(), path.string()));
    };

    const auto start = Clock::now();
    const double limit = config.minutes * 60;
    const std::int64_t first = trainer.steps_done();
    double excluded = 0;  // seconds spent on saving and previews, which do not count as training
    double window_loss = 0, window_norm = 0;
    std::int64_t window_steps = 0;
    auto window_start = start;
    double rate = 0;  // images per second
    const auto out_of_time = [&] { return limit > 0 && seconds_since(start) >= limit; };

    while ((trainer.total_steps() == 0 || trainer.steps_done() < trainer.total_steps()) && !interrupted() &&
           !out_of_time()) {
        const StepMetrics done = trainer.step();
        window_loss += done.loss;
        window_norm += done.grad_norm;
        ++window_steps;
        const std::int64_t made = done.step - first;
        const double training = seconds_since(start) - excluded;
        // Without --steps the speed of the first steps tells how many fit, so that the learning rate's decay
        // ends with the time.
        if (trainer.total_steps() == 0 && (made >= 50 || training > 0.05 * limit)) {
            const double per_step = training / static_cast<double>(made);
            const auto more = static_cast<std::int64_t>((limit - seconds_since(start)) / per_step);
            trainer.set_total_steps(done.step + std::max<std::int64_t>(more, 1));
        }
        const bool last = done.step == trainer.total_steps();
        if (done.step % log_every == 0 || last) {
            const double elapsed = seconds_since(window_start);
            rate = static_cast<double>(window_steps * trainer.images_per_step()) / elapsed;
            metrics.write({{"step", done.step},
                           {"loss", window_loss / static_cast<double>(window_steps)},
                           {"grad_norm", window_norm / static_cast<double>(window_steps)},
                           {"lr", done.lr},
                           {"images_per_second", rate},
                           {"seconds", seconds_since(start)}});
        }
        const double shown_loss = window_loss / static_cast<double>(window_steps);
        if (done.step % log_every == 0 || last) {
            window_loss = window_norm = 0;
            window_steps = 0;
            window_start = Clock::now();
        }
        const double left = trainer.total_steps() == 0
                                ? limit - seconds_since(start)
                                : training / static_cast<double>(made) *
                                      static_cast<double>(trainer.total_steps() - done.step);
        progress.show(fmt::format("step {}/{}  loss {:.4f}  {}  {} left", done.step,
                                  trainer.total_steps() ? std::to_string(trainer.total_steps()) : "?", shown_loss,
                                  rate > 0 ? fmt::format("{:.0f} images/s", rate) : std::string("..."),
                                  format_duration(left)),
                      last);
        if (last) break;
        const auto pause = Clock::now();
        if (done.step % config.save_every == 0) save();
        if (config.sample_every > 0 && done.step % config.sample_every == 0 && !interrupted()) preview();
        excluded += seconds_since(pause);
        if (seconds_since(pause) > 0.1) window_start += Clock::now() - pause;
    }

    const bool stopped = interrupted();
    save();
    if (stopped) {
        progress.print(fmt::format("interrupted; continue with: ito train --resume {}", run.root().string()));
        return exit_interrupted;
    }
    preview();
    progress.print(fmt::format("done in {}; sample with: ito sample {}", format_duration(seconds_since(start)),
                               run.root().string()));
    return 0;
}

}  // namespace

Action add_train(CLI::App& app) {
    auto command = std::make_shared<TrainCommand>();
    auto& c = *command;
    auto& o = c.config;
    c.app = &app;
    app.add_option("--data", o.data, "fashion-mnist, mnist, cifar10, or a folder of PNG and JPEG files")
        ->capture_default_str();
    app.add_option("--data-dir", o.data_dir, "Where the files of mnist or cifar10 are (fashion-mnist: the system's)");
    app.add_option("--image-size", o.image_size, "Scale and crop to this side, 0 for as they are")
        ->capture_default_str();
    app.add_flag("--flip", o.flip, "Mirror half of the images left-right");
    app.add_option("--out", c.out, "Run directory to create");
    app.add_option("--resume", c.resume, "Run directory to continue");
    app.add_option("--steps", o.steps, "Optimizer steps in total, also on resume (10000 if --minutes is not given)")
        ->default_str("0");
    app.add_option("--minutes", o.minutes, "Stop after so many minutes; without --steps, plan the steps to fit")
        ->capture_default_str();
    app.add_option("--batch", o.batch, "Images of one forward pass")->capture_default_str();
    app.add_option("--grad-accum", o.grad_accum, "Forward passes of one step")->capture_default_str();
    app.add_option("--base-channels", o.base_channels, "Channels of the first level")->capture_default_str();
    app.add_option("--channel-mults", o.channel_mults, "Channels of each level, in base channels")
        ->delimiter(',')
        ->default_str("1,2,2");
    app.add_option("--layers-per-block", o.layers_per_block, "Residual blocks of each level")->capture_default_str();
    app.add_option("--attention-resolutions", o.attention_resolutions,
                   "Sides at which attention runs besides the middle; 0 for none (half the image size: 14 for MNIST)")
        ->delimiter(',');
    app.add_option("--heads", o.heads, "Attention heads")->capture_default_str();
    app.add_option("--norm-groups", o.norm_groups,
                   "GroupNorm groups, 0 for the largest divisor of the base channels up to 32 that leaves 4 a group")
        ->capture_default_str();
    app.add_option("--dropout", o.dropout, "Probability in the residual blocks")->capture_default_str();
    app.add_option("--timesteps", o.timesteps, "T, the length of the noise schedule")->capture_default_str();
    app.add_option("--beta-start", o.beta_start, "First beta of the linear schedule")->capture_default_str();
    app.add_option("--beta-end", o.beta_end, "Last beta of the linear schedule")->capture_default_str();
    app.add_option("--lr", o.lr, "Learning rate (its peak)")->capture_default_str();
    app.add_option("--lr-schedule", o.lr_schedule, "constant, linear or cosine (to 0 at the last step)")
        ->capture_default_str();
    app.add_option("--warmup", o.warmup, "Steps over which the learning rate rises")->capture_default_str();
    app.add_option("--clip", o.clip, "Largest global gradient norm, 0 for no clipping")->capture_default_str();
    app.add_option("--weight-decay", o.weight_decay, "AdamW's; 0 is plain Adam")->capture_default_str();
    app.add_option("--ema", o.ema, "Decay of the weights' moving average")->capture_default_str();
    app.add_option("--seed", o.seed, "Same seed, same bits, for any number of threads")->capture_default_str();
    app.add_option("--device", o.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
    app.add_option("--threads", o.threads, "CPU threads, 0 for all; never changes a result")->capture_default_str();
    app.add_option("--precision", o.precision, "float32")->capture_default_str();
    app.add_option("--sample-every", o.sample_every, "Steps between sample grids, 0 for one at the end")
        ->capture_default_str();
    app.add_option("--save-every", o.save_every, "Steps between checkpoints")->capture_default_str();
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
