#pragma once
// Everything that decides what a training run does, as resolved from the command line and kept in the run.

#include <cstdint>
#include <string>
#include <vector>

#include "diffusion/pipeline/scheduler_config.h"
#include "nn/unet.h"

namespace ito::diffusion {

/// A network and the noise schedule that it is trained with.
struct ModelConfig {
    nn::UNetConfig unet;
    SchedulerConfig scheduler;
};

/// The options of ito train, under the same names; a program fills in what differs from the defaults.
struct TrainConfig {
    // data
    std::string data = "fashion-mnist";
    std::string data_dir;
    std::int64_t image_size = 0;  ///< 0: as the data set has it
    bool skip_broken = false;     ///< files of a folder that cannot be read are left out
    bool flip = false;
    // length
    static constexpr std::int64_t most_steps = 1'000'000'000;
    std::int64_t steps = 0;  ///< total, also on resume; 0: as many as fit into `minutes`
    double minutes = 0;      ///< of this run of the command; 0: no limit
    // batch
    std::int64_t batch = 64;  ///< of one forward pass
    std::int64_t grad_accum = 1;
    // model
    /// A run or a pipeline whose network, noise schedule and weights ("ema" or "raw", of a `variant`) the training begins
    /// with; empty: fresh weights, and a network of the fields below. Those describe the network in any case where they
    /// can: one that diffusers saved may have what they cannot say, and the run's unet/config.json then says it alone.
    std::string init_from;
    std::string weights = "ema", variant;
    std::int64_t base_channels = 32;
    std::vector<std::int64_t> channel_mults{1, 2, 2};
    std::int64_t layers_per_block = 2;
    /// Empty: half the image size (Ho et al.'s choice for CIFAR-10). {0}: only in the middle.
    std::vector<std::int64_t> attention_resolutions;
    std::int64_t heads = 1;
    std::int64_t norm_groups = 0;  ///< 0: nn::default_norm_groups
    double dropout = 0;
    // diffusion
    std::int64_t timesteps = 1000;
    std::string beta_schedule = "linear";
    double beta_start = 1e-4, beta_end = 0.02;  ///< of the linear schedule
    bool rescale_betas = false;                 ///< both times 1000 / T
    // optimizer
    double lr = 1e-3;
    std::string lr_schedule = "constant";
    std::int64_t warmup = 0;
    double clip = 1;
    double weight_decay = 0;  ///< AdamW's
    double ema = 0.9999;
    // run
    std::uint64_t seed = 0;
    std::string device = "auto";
    int threads = 0;                           ///< 0: all processors
    std::string precision = "auto";            ///< see parse_precision
    std::string weight_gradients = "float32";  ///< or bfloat16: see set_bfloat16_weight_gradients
    std::int64_t sample_every = 1000;          ///< steps between sample grids; 0: only at the end
    std::int64_t save_every = 500;             ///< steps between checkpoints
    std::int64_t keep = 1;                     ///< checkpoints that stay
    bool tensorboard = false;                  ///< write event files too

    /// Throws Error naming the option, what was found and what is expected.
    void validate() const;
    std::string to_json() const;
    /// `source` names the text in errors. Unknown fields, fields of the wrong kind, numbers that do not fit and
    /// what validate() refuses are refused.
    static TrainConfig from_json(const std::string& text, const std::string& source);

    /// The network for images of this size.
    nn::UNetConfig unet(std::int64_t height, std::int64_t width, std::int64_t channels) const;
    SchedulerConfig scheduler() const;
    /// Sets the fields of network and schedule so that they describe `model`, or leaves them all where they cannot.
    void describe(const ModelConfig& model);
};

}  // namespace ito::diffusion
