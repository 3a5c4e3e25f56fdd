#pragma once
// A checkpoint: what a training resumes from. Its files are float32 on every device:
//
//   trainer/step-00000500/{weights,ema,adam_m,adam_v}.safetensors, state.json
//                         kernels.json     from a GPU: which variants of its kernels ran, so that the resumed bits are the same

#include <filesystem>

#include "diffusion/run/run.h"
#include "diffusion/training/trainer_state.h"
#include "nn/optimizer.h"

namespace ito::diffusion {

/// A loss, a gradient, a weight or a moment is not finite. No checkpoint has such a value.
class Diverged : public Error {
  public:
    using Error::Error;
};

/// Whether a training may resume with another number of images.
enum class ImageCount { same, any };

/// Writes and reads the tensors of a training. They are kept by reference.
class Checkpoint {
  public:
    Checkpoint(nn::FlatParameters& parameters, nn::Adam& adam, nn::Ema& ema)
        : parameters_(parameters), adam_(adam), ema_(ema) {}

    /// Writes the checkpoint of `state.step` under `run` and the pipeline's weights, then removes all but the last `keep`
    /// checkpoints. If it throws (disk full, Diverged), the older ones are still there. Fills in the optimizer's counts in the
    /// state. Waits for the device.
    void save(const Run& run, TrainerState state, std::int64_t keep) const;

    /// Reads a checkpoint folder. If it was trained on a data set of another size than `dataset`, throws and changes nothing.
    TrainerState load(const std::filesystem::path& folder, const std::array<std::int64_t, 4>& dataset,
                      ImageCount images = ImageCount::same);

  private:
    void write(const std::filesystem::path& folder, const TrainerState& state) const;

    nn::FlatParameters& parameters_;
    nn::Adam& adam_;
    nn::Ema& ema_;
};

}  // namespace ito::diffusion
