#pragma once
// Training with L_simple (Ho et al. 2020, algorithm 1).
//
// Everything random follows from (seed, step, index of the sample in the step): data order, flips, timesteps,
// noise, dropout. The state of a training is therefore its weights, moments, average and step count, and
// going on from a checkpoint gives the same bits as never having stopped.

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "diffusion/data/dataset.h"
#include "diffusion/data_order.h"
#include "diffusion/run.h"
#include "diffusion/train_config.h"
#include "diffusion/trainer_state.h"
#include "nn/lr_schedule.h"
#include "nn/optimizer.h"

namespace ito::diffusion {

/// What a step measured.
struct StepMetrics {
    std::int64_t step = 0;  ///< steps done, this one included
    double loss = 0;        ///< mean over the step's samples
    double grad_norm = 0;   ///< before clipping
    double lr = 0;
    LossByTimestep by_timestep;
};

/// A loss, a gradient, a weight or a moment is not finite. No checkpoint holds such a value.
class Diverged : public Error {
  public:
    using Error::Error;
};

/// A training: the network, its optimizer and average, the data. `ito train` is a loop around step(); tests/consumer/ddpm.cpp
/// is a small program that uses it. Of the config it takes data set, length, model and optimizer as they are; device,
/// threads and when to sample or save are left to the caller.
class Trainer {
  public:
    /// A fresh network for the data set. `config.steps` may still be 0 (see set_total_steps).
    Trainer(const TrainConfig& config, Dataset dataset);
    /// The same with a network that `config` need not be able to describe (one that diffusers saved).
    Trainer(const TrainConfig& config, const nn::UNetConfig& unet, Dataset&& dataset);

    /// One optimizer step: forward and backward over grad_accum batches, clipping, Adam, EMA. Throws Diverged.
    StepMetrics step();

    std::int64_t steps_done() const { return static_cast<std::int64_t>(step_); }
    std::int64_t total_steps() const { return lr_.total; }
    /// Fixes the length of the training (and with it the learning-rate schedule), at TrainConfig::most_steps at most.
    void set_total_steps(std::int64_t steps) { lr_.total = std::min(steps, TrainConfig::most_steps); }
    std::int64_t images_per_step() const { return config_.batch * config_.grad_accum; }

    /// Every step adds to it; who reads it starts it anew.
    MetricsWindow& window() { return window_; }

    nn::UNet& model() { return *model_; }
    const nn::UNetConfig& unet_config() const { return model_->config(); }
    const NoiseSchedule& schedule() const { return schedule_; }
    const Dataset& dataset() const { return dataset_; }
    /// Copies of some images of the data set.
    Dataset images(const std::vector<std::int64_t>& indices) const;
    /// Mean square of the (normalised) data: what prior_bits_per_dim needs.
    double data_second_moment() const;

    /// Images from the EMA weights, always from the same noise: [count, H, W, C]. Ends with an Error once
    /// `keep_going` returns false.
    Tensor sample(
        std::int64_t count, std::int64_t sampling_steps,
        const std::function<bool()>& keep_going = [] { return true; });

    /// Writes a checkpoint folder under `run` and the pipeline's weights, and then removes checkpoints older than
    /// the last `config.keep`. If it throws (disk full, Diverged), the older ones are still there.
    void save(const Run& run) const;
    /// Goes on from a checkpoint folder; throws if it was trained on a data set of another size.
    void load(const std::filesystem::path& checkpoint);

  private:
    double forward_backward(std::int64_t micro_batch, LossByTimestep& by_timestep);
    void write_checkpoint(const std::filesystem::path& folder) const;
    std::array<std::int64_t, 4> dataset_size() const {
        return {dataset_.count, dataset_.height, dataset_.width, dataset_.channels};
    }

    TrainConfig config_;
    Dataset dataset_;
    NoiseSchedule schedule_;
    std::shared_ptr<nn::UNet> model_;
    nn::FlatParameters parameters_;
    nn::Adam adam_;
    nn::Ema ema_;
    nn::LrSchedule lr_;
    DataOrder order_;
    Tensor images_;          // uint8 [count, H, W, C]
    Tensor signal_, sigma_;  // [T]
    std::uint64_t step_ = 0;
    MetricsWindow window_;
};

}  // namespace ito::diffusion
