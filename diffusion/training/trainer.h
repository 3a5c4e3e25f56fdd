#pragma once
// Training with L_simple (Ho et al. 2020, algorithm 1).
//
// Everything random follows from (seed, step, index of the sample in the step): data order, flips, timesteps,
// noise, dropout. The state of a training is therefore its weights, moments, average and step count, and
// going on from a checkpoint gives the same bits as never having stopped.
//
// On CUDA a step only enqueues work; its metrics stay on the device until they are asked for.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "core/deferred_read.h"
#include "core/pacer.h"
#include "core/precision.h"
#include "diffusion/data/data_order.h"
#include "diffusion/data/dataset.h"
#include "diffusion/run/run.h"
#include "diffusion/training/checkpoint.h"
#include "diffusion/training/train_config.h"
#include "diffusion/training/training_images.h"
#include "diffusion/training/training_step.h"
#include "nn/lr_schedule.h"

namespace ito::diffusion {

/// Where and how a training computes.
struct TrainerOptions {
    Computation computation = {};
    bool graph = true;  ///< record the step into a CUDA graph after two; the bits are the same without
    ImagePlace images = ImagePlace::automatic;
};

/// The metrics of consecutive steps.
struct LoggedWindow {
    std::int64_t step = 0;  ///< steps done when it ended
    double lr = 0;          ///< of its last step
    MetricsWindow window;
};

/// A training: the network, its optimizer and average, the data. `ito train` is a loop around step(); tests/consumer/ddpm.cpp
/// is a small program that uses it. It reads the config's length, batch, model and optimizer; device, threads and when to
/// sample or save are the caller's.
class Trainer {
  public:
    /// A fresh network for the data set. `config.run.steps` may still be 0 (see set_total_steps).
    Trainer(const TrainConfig& config, Dataset dataset, const TrainerOptions& options = {});
    /// The same with a network and a schedule that `config` may not be able to describe (those that diffusers saved).
    Trainer(const TrainConfig& config, const ModelConfig& model, Dataset&& dataset,
            const TrainerOptions& options = {});

    /// Begins with the weights of `model`, which must be the same network. The average begins with them too; the optimizer is
    /// fresh and the step is 0.
    void begin_from(const nn::UNet& model);

    /// One optimizer step: forward and backward over grad_accum batches, clipping, Adam, EMA. A loss or gradient that is not
    /// finite changes nothing and throws Diverged: at once on the CPU, on CUDA when the step's metrics are read or saved.
    void step();

    std::int64_t steps_done() const { return static_cast<std::int64_t>(step_); }
    std::int64_t total_steps() const { return lr_.total; }
    /// Fixes the length of the training (and with it the learning-rate schedule), at TrainConfig::most_steps at most.
    void set_total_steps(std::int64_t steps) { lr_.total = std::min(steps, TrainConfig::most_steps); }
    std::int64_t images_per_step() const { return config_.optimizer.batch * config_.optimizer.grad_accum; }

    // --- what the steps measured: every step adds to a window, which is part of the checkpoint ---
    /// The sums so far. Waits for the device.
    MetricsWindow window() const;
    /// The same if that costs nothing (on the CPU), else none.
    std::optional<MetricsWindow> window_at_hand() const;
    /// window() with its place in the training.
    LoggedWindow open_window() const { return {steps_done(), last_lr(), window()}; }
    /// The sums so far; the next step begins a new window. Waits for the device.
    MetricsWindow take_window();
    /// Ends the window without waiting. logged_window() returns it once the device has come this far.
    void log_window();
    /// The next window that ended. None if there is none, or if the device has not come that far and `wait` is false.
    std::optional<LoggedWindow> logged_window(bool wait);

    nn::UNet& model() { return *model_; }
    const nn::UNetConfig& unet_config() const { return model_->config(); }
    const NoiseSchedule& schedule() const { return schedule_; }
    const TrainingImages& images() const { return images_; }
    const TrainerOptions& options() const { return options_; }
    /// Kernels, copies and fills of the recorded step; 0 where it is not recorded (yet).
    std::size_t graph_nodes() const { return work_.graph_nodes(); }

    /// Images from the EMA weights, always from the same noise: [count, H, W, C] on the host. Ends with an Error once
    /// `keep_going` returns false.
    Tensor sample(
        std::int64_t count, std::int64_t sampling_steps,
        const std::function<bool()>& keep_going = [] { return true; });

    /// See Checkpoint::save.
    void save(const Run& run);
    /// Goes on from a checkpoint folder. Throws if it was trained on a data set of another size; ImageCount::any allows another
    /// number of images.
    void load(const std::filesystem::path& folder, ImageCount images = ImageCount::same);

  private:
    /// A window that ended and is on its way to the host.
    struct Pending {
        std::int64_t step;
        double lr;
        std::unique_ptr<DeferredRead<kernels::StepSums>> sums;
    };

    std::vector<std::int64_t> indices_of(std::uint64_t step);
    double last_lr() const { return lr_.at(std::max<std::int64_t>(steps_done() - 1, 0)); }

    TrainConfig config_;
    TrainerOptions options_;
    SchedulerConfig scheduler_;
    NoiseSchedule schedule_;
    TrainingImages images_;
    std::shared_ptr<nn::UNet> model_;
    nn::FlatParameters parameters_;
    nn::Adam adam_;
    nn::Ema ema_;
    nn::LrSchedule lr_;
    DataOrder order_;
    TrainingStep work_;
    Pacer pacer_;
    std::uint64_t step_ = 0;
    std::deque<Pending> pending_;
    std::vector<std::unique_ptr<DeferredRead<kernels::StepSums>>> free_reads_;
};

}  // namespace ito::diffusion
