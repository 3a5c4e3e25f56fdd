// The loop of ito train: the steps, and what is shown and written between them.
#include "apps/training_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "apps/commands.h"
#include "apps/figures.h"
#include "apps/terminal.h"
#include "core/autograd/node.h"
#include "core/choices.h"
#include "core/context.h"
#include "core/error.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/png.h"
#include "diffusion/report/tensorboard.h"
#include "diffusion/run/metrics.h"

namespace ito::apps {

namespace fs = std::filesystem;
using namespace diffusion;

namespace {

/// "", or how often every image is seen.
std::string epochs_text(const Trainer& trainer) {
    if (trainer.total_steps() == 0) return {};
    const double epochs = static_cast<double>(trainer.total_steps()) *
                          static_cast<double>(trainer.images_per_step()) /
                          static_cast<double>(trainer.images().count());
    return fmt::format(" ({:.{}f} epochs)", epochs, epochs < 10 ? 2 : 0);
}

std::string minutes_text(double minutes) {
    return fmt::format("{:g} {}", minutes, minutes == 1 ? "minute" : "minutes");
}

}  // namespace

std::vector<std::string> training_description(const TrainConfig& config, Trainer& trainer, const Run& run) {
    const auto& data = trainer.images();
    const std::string length =
        trainer.total_steps() > 0 ? counted(trainer.total_steps(), "step") : minutes_text(config.run.minutes);
    std::vector<std::string> lines{
        fmt::format("data      {}: {} of {}x{}x{}", config.data.data, counted(data.count(), "image"),
                    data.height(), data.width(), data.channels()),
        fmt::format("model     {:.2f} M parameters, {} on {}",
                    static_cast<double>(trainer.model().parameter_count()) / 1e6,
                    Execution{config.run.device, config.run.threads, config.run.precision}.text(),
                    counted(threads(), "thread")),
        fmt::format("schedule  {} timesteps, prior {:.2g} bits/dim", trainer.schedule().timesteps(),
                    trainer.schedule().prior_bits_per_dim(data.second_moment())),
        fmt::format(
            "training  {} of {}{}{}{}", length, counted(trainer.images_per_step(), "image"),
            epochs_text(trainer),
            trainer.steps_done() > 0 ? fmt::format(", on from step {}", trainer.steps_done()) : std::string(),
            run.root().empty() ? std::string() : fmt::format(" -> {}", run.root().string()))};
    if (!config.model.init_from.empty() && trainer.steps_done() == 0)
        lines.insert(lines.begin() + 2, fmt::format("weights   begins with the {} weights of {}",
                                                    config.model.weights, config.model.init_from));
    return lines;
}

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t preview_images = 16, preview_steps = 50;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The loop of one command.
class Training {
  public:
    Training(const TrainConfig& config, Trainer& trainer, const Run& run, const RunLock& lock,
             const StepTrace& trace)
        : config_(config),
          trainer_(trainer),
          run_(run),
          lock_(lock),
          trace_(trace),
          metrics_(run.metrics(), trainer.steps_done()) {
        if (config.run.tensorboard)
            board_.emplace(run.tensorboard(), trainer.steps_done(), MetricsLog::every);
    }

    /// The exit status.
    int operator()();

  private:
    int train();
    void step();
    [[noreturn]] void end_diverged(const Diverged& error);
    void count_step();
    void write_windows(bool wait);
    void write_metrics(const LoggedWindow& logged);
    void plan_steps();
    void show(bool last);
    std::string loss_text() const { return shown_loss_ ? fmt::format("  loss {:.4f}", *shown_loss_) : ""; }
    void follow();
    void save();
    bool preview();
    bool figures();

    bool complete() const {
        return trainer_.total_steps() > 0 && trainer_.steps_done() >= trainer_.total_steps();
    }
    bool out_of_time() const { return limit_ > 0 && seconds_since(start_) >= limit_; }
    std::int64_t steps_made() const { return trainer_.steps_done() - first_step_; }
    double seconds_per_step() const {
        // The first step sets up memory and plans, and takes longer than the others.
        return steps_made() < 2
                   ? seconds_since(start_)
                   : (seconds_since(second_step_) - paused_) / static_cast<double>(steps_made() - 1);
    }

    const TrainConfig& config_;
    Trainer& trainer_;
    Run run_;
    const RunLock& lock_;
    const StepTrace& trace_;
    MetricsLog metrics_;
    std::optional<TensorboardWriter> board_;
    ProgressLine progress_;
    const std::int64_t first_step_ = trainer_.steps_done();
    const Clock::time_point start_ = Clock::now();
    const double limit_ = config_.run.minutes * 60;
    Clock::time_point second_step_ = start_;
    double paused_ = 0;  // seconds of saving and previews, which do not count as training
    std::optional<double>
        shown_loss_;          // not known before the first line on CUDA, where nobody waits for the device
    double window_loss_ = 0;  // of the window that the last step belongs to
    Clock::time_point speed_start_ = start_;
    std::int64_t speed_steps_ = 0;
    double images_per_second_ = 0;
};

void Training::end_diverged(const Diverged& error) {
    const auto kept = run_.latest_checkpoint();
    fail(
        "{}; {}; {} train --resume {} --anomaly names the op and the layer that made it; a lower --lr or "
        "--clip 1 may help",
        error.what(),
        kept ? fmt::format("the checkpoint {} stays", kept->filename().string())
             : std::string("there is no checkpoint yet"),
        program(), shell_word(run_.root().string()));
}

void Training::step() {
    try {
        if (!trace_.wanted(steps_made() + 1)) return trainer_.step();
        Timeline timeline;
        const trace::Listen listen(timeline);
        trainer_.step();
        progress_.print(trace_.write(timeline, trainer_.steps_done()));
    } catch (const Diverged&) {
        throw;
    } catch (const OutOfMemory&) {
        throw;
    } catch (const Error& error) {
        if (!autograd::anomaly_mode()) throw;
        fail("step {}: {}", trainer_.steps_done() + 1, error.what());
    }
}

void Training::count_step() {
    if (steps_made() == 1) second_step_ = Clock::now();
    ++speed_steps_;
    const auto window = trainer_.window_at_hand();
    if (!window) return;
    // A running mean over about the last 50 steps: a single batch's loss says little.
    const double loss = window->steps > 1 ? window->loss - window_loss_ : window->loss;
    window_loss_ = window->loss;
    const double weight = std::max(0.02, 1 / static_cast<double>(steps_made()));
    shown_loss_ = shown_loss_ ? *shown_loss_ + weight * (loss - *shown_loss_) : loss;
}

/// Writes the windows that the device has finished; with `wait` all that ended.
void Training::write_windows(bool wait) {
    while (const auto line = trainer_.logged_window(wait)) {
        write_metrics(*line);
        if (!trainer_.window_at_hand()) shown_loss_ = line->window.mean_loss();
    }
}

void Training::write_metrics(const LoggedWindow& logged) {
    const MetricsWindow& window = logged.window;
    const MetricsLine line{.step = logged.step,
                           .loss = window.mean_loss(),
                           .loss_by_timestep = window.by_timestep.means(),
                           .grad_norm = window.mean_grad_norm(),
                           .lr = logged.lr,
                           .images_per_second = images_per_second_,
                           .seconds = metrics_.seconds_before() + seconds_since(start_)};
    metrics_.write(line);
    if (!board_) return;
    std::vector<std::pair<std::string, double>> scalars{{"train/loss", *line.loss},
                                                        {"train/grad_norm", *line.grad_norm},
                                                        {"train/lr", *line.lr},
                                                        {"train/images_per_second", images_per_second_}};
    for (std::size_t q = 0; q < line.loss_by_timestep.size(); ++q)
        if (const auto mean = line.loss_by_timestep[q])
            scalars.emplace_back(fmt::format("loss_by_timestep/quartile_{}", q + 1), *mean);
    board_->scalars(line.step, scalars);
}

/// Without --steps the speed at the beginning tells how many fit into the time, so that the learning rate's decay ends with it.
void Training::plan_steps() {
    if (trainer_.total_steps() > 0) return;
    const double left = limit_ - seconds_since(start_);
    if (steps_made() < 3 || limit_ - left < std::min(0.05 * limit_, 10.0)) return;
    const auto more = static_cast<std::int64_t>(left / seconds_per_step());
    trainer_.set_total_steps(trainer_.steps_done() + std::max<std::int64_t>(more, 0));
    progress_.print(fmt::format("step {}: planned {} to fit {}", trainer_.steps_done(),
                                counted(trainer_.total_steps(), "step"), minutes_text(config_.run.minutes)));
}

void Training::show(bool last) {
    const std::int64_t total = trainer_.total_steps();
    double left = seconds_per_step() * static_cast<double>(total - trainer_.steps_done());
    if (limit_ > 0) left = std::min(total > 0 ? left : limit_, limit_ - seconds_since(start_));
    progress_.show(fmt::format("step {}/{}{}  {:.{}f} images/s  {} left", trainer_.steps_done(),
                               total > 0 ? std::to_string(total) : "?", loss_text(), images_per_second_,
                               images_per_second_ < 10 ? 1 : 0, format_duration(std::max(left, 0.0))),
                   last);
}

/// The run's folder may be renamed during the training. From here on files go to its new place.
void Training::follow() {
    const fs::path folder = lock_.folder();
    if (folder == run_.root()) return;
    progress_.print(fmt::format("the run's folder was moved; going on in {}", folder.string()));
    run_ = Run(folder);
}

void Training::save() {
    follow();
    try {
        write_windows(true);
        trainer_.save(run_);
    } catch (const Diverged&) {
        throw;
    } catch (const Error& error) {
        const auto kept = run_.latest_checkpoint();
        fail("{}; {}; when that is put right: {} train --resume {}", error.what(),
             kept ? fmt::format("{} stays", kept->filename().string()) : std::string("nothing was saved yet"),
             program(), shell_word(run_.root().string()));
    }
    progress_.print(fmt::format("step {}: saved{}", trainer_.steps_done(),
                                steps_made() > 0 ? loss_text() : std::string()));
}

/// False if it was interrupted.
bool Training::preview() {
    follow();
    const std::int64_t height = trainer_.images().height(), width = trainer_.images().width();
    const std::int64_t side = std::max(height, width);
    const auto count = std::clamp<std::int64_t>(max_image_pixels / 2 / (side * side), 1, preview_images);
    try {
        const auto pixels = trainer_
                                .sample(count, std::min(preview_steps, trainer_.schedule().timesteps()),
                                        [] { return !interrupted(); })
                                .to_vector<float>();
        const fs::path path = run_.samples() / fmt::format("step-{:08}.png", trainer_.steps_done());
        const Image grid =
            make_grid(std::span<const float>(pixels), count, height, width, trainer_.images().channels(),
                      {.upscale = default_upscale(count, height, width)});
        write_png(path, grid);
        if (board_) board_->image(trainer_.steps_done(), "samples", grid);
        progress_.print(fmt::format("step {}: samples -> {}", trainer_.steps_done(), path.string()));
    } catch (const Error&) {
        if (!interrupted()) throw;
        return false;
    }
    return true;
}

/// False if it was interrupted. The weights come from the disk, so that `ito figures` makes the same figures.
bool Training::figures() {
    follow();
    FigureOptions options;
    options.steps = std::min(options.steps, trainer_.schedule().timesteps());
    options.graph = trainer_.options().graph;
    const auto real =
        trainer_.images().copies(figure_images(trainer_.images().count(), options.images, options.seed));
    Pipeline pipeline = load_pipeline(run_.root());
    pipeline.to(trainer_.options().computation);
    return make_figures(run_, pipeline, run_.figures(), options, real, progress_);
}

int Training::operator()() {
    try {
        return train();
    } catch (const Diverged& error) {
        end_diverged(error);
    }
}

int Training::train() {
    for (const std::string& line : training_description(config_, trainer_, run_)) progress_.print(line);
    const Device device = trainer_.options().computation.device;
    if (const std::string line = why_no_cudnn(device); !line.empty()) progress_.print(line);
    while (!complete() && !interrupted() && !out_of_time()) {
        step();
        count_step();
        for (const std::string& line : take_choice_notices(device)) progress_.print(line);
        plan_steps();
        const std::int64_t done = trainer_.steps_done();
        const double elapsed = seconds_since(speed_start_);
        const bool line = done % MetricsLog::every == 0;
        if (line || images_per_second_ == 0 || elapsed > 2)
            images_per_second_ = static_cast<double>(speed_steps_ * trainer_.images_per_step()) / elapsed;
        if (line) {
            trainer_.log_window();
            speed_steps_ = 0;
            speed_start_ = Clock::now();
        }
        write_windows(complete());
        show(complete());
        if (complete()) break;
        const auto pause = Clock::now();
        if (done % config_.run.save_every == 0) save();
        if (config_.run.sample_every > 0 && done % config_.run.sample_every == 0 && !interrupted()) preview();
        paused_ += seconds_since(pause);
        speed_start_ += Clock::now() - pause;
    }
    const bool stopped = interrupted() && !complete();
    if (!trace_.file.empty() && steps_made() < trace_.step)
        progress_.print(fmt::format("no trace was written: the training ended before step {} of this command",
                                    trace_.step));
    // The steps since the last line. The checkpoint keeps them too, for the next line of a resumed training.
    write_windows(true);
    if (const LoggedWindow rest = trainer_.open_window(); rest.window.steps > 0 && steps_made() > 0)
        write_metrics(rest);
    if (!complete() && !stopped && trainer_.total_steps() > 0)
        progress_.print(fmt::format("time is up ({}) at step {}/{}", minutes_text(config_.run.minutes),
                                    trainer_.steps_done(), trainer_.total_steps()));
    save();
    if (stopped) {
        report_training(run_, config_);
        progress_.print(fmt::format("interrupted; continue with: {} train --resume {}", program(),
                                    shell_word(run_.root().string())));
        return exit_interrupted;
    }
    const bool whole = preview() && figures();
    report_training(run_, config_);
    progress_.print(fmt::format("{} in {}; look at {}, sample with: {} sample {}",
                                whole ? "done" : "trained, pictures interrupted,",
                                format_duration(seconds_since(start_)), run_.report().string(), program(),
                                shell_word(run_.root().string())));
    return whole ? 0 : exit_interrupted;
}

}  // namespace

int run_training(const TrainConfig& config, Trainer& trainer, const Run& run, const RunLock& lock,
                 const StepTrace& trace) {
    return Training(config, trainer, run, lock, trace)();
}

}  // namespace ito::apps
