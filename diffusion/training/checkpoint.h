#pragma once
// What a training goes on from, in a folder of float32 files that is the same whatever device wrote it:
//
//   trainer/step-00000500/{weights,ema,adam_m,adam_v}.safetensors, state.json
//                         kernels.json     from a GPU: which variants of its kernels ran, so that going on gives the same bits

#include <filesystem>

#include "diffusion/run/run.h"
#include "diffusion/training/trainer_state.h"
#include "nn/optimizer.h"

namespace ito::diffusion {

/// A loss, a gradient, a weight or a moment is not finite. No checkpoint holds such a value.
class Diverged : public Error {
  public:
    using Error::Error;
};

/// Whether a training may go on with another number of images than it had.
enum class ImageCount { same, any };

/// The tensors of a training, and how they get to files and back. All are kept by reference.
class Checkpoint {
  public:
    Checkpoint(nn::FlatParameters& parameters, nn::Adam& adam, nn::Ema& ema)
        : parameters_(parameters), adam_(adam), ema_(ema) {}

    /// Writes the checkpoint of `state.step` under `run` and the pipeline's weights, and then removes checkpoints older than
    /// the last `keep`. If it throws (disk full, Diverged), the older ones are still there. Fills in the state's counts of the
    /// optimizer. Waits for the device.
    void save(const Run& run, TrainerState state, std::int64_t keep) const;

    /// Reads a checkpoint folder; throws if it was trained on a data set of another size than `dataset`, and then has changed
    /// nothing.
    TrainerState load(const std::filesystem::path& folder, const std::array<std::int64_t, 4>& dataset,
                      ImageCount images = ImageCount::same);

  private:
    void write(const std::filesystem::path& folder, const TrainerState& state) const;

    nn::FlatParameters& parameters_;
    nn::Adam& adam_;
    nn::Ema& ema_;
};

}  // namespace ito::diffusion
