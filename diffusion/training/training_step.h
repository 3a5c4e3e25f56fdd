#pragma once
// The device work of one training step (Ho et al. 2020, algorithm 1), from bytes to updated weights:
//
//   x_0 ~ data, t ~ Uniform(0 .. T - 1), eps ~ N(0, I)
//   x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps             ops::noising
//   gradient of |eps - model(x_t, t)|^2                       ops::mse_loss, which draws eps again, and backward
//   clipping, Adam, moving average                            nn::Adam
//
// Only one struct and the indices of the images change from step to step, and both are written before the work. Losses and
// norms are added up on the device. So the work is the same every time, and on CUDA it is one graph.

#include "core/device_value.h"
#include "core/recorded_work.h"
#include "diffusion/schedule.h"
#include "diffusion/training/train_config.h"
#include "diffusion/training/training_images.h"
#include "kernels/step_metrics/step_metrics.h"
#include "nn/optimizer.h"
#include "nn/unet.h"

namespace ito::diffusion {

/// What the kernels of a step read through pointers.
struct StepInputs {
    std::uint64_t step = 0;  ///< steps done before: the address of all draws
    kernels::AdamStep adam;
};

class TrainingStep {
  public:
    /// All but the schedule are kept by reference; they are on one device. `record`: into a CUDA graph.
    TrainingStep(const TrainConfig& config, const NoiseSchedule& schedule, const nn::UNet& model,
                 nn::FlatParameters& parameters, nn::Adam& adam, nn::Ema& ema, const TrainingImages& images,
                 DType compute, bool record);

    /// Enqueues step number `step` (counted from 0) on the selected images.
    void run(std::uint64_t step, double lr);

    /// Added up by every run; the host reads and clears them.
    DeviceValue<kernels::StepSums>& sums() { return sums_; }
    const DeviceValue<kernels::StepSums>& sums() const { return sums_; }
    /// Kernels, copies and fills of the graph; 0 where there is none.
    std::size_t graph_nodes() const { return work_.nodes(); }

  private:
    void work();
    void forward_backward(std::int64_t micro_batch);

    const TrainConfig& config_;
    const nn::UNet& model_;
    nn::FlatParameters& parameters_;
    nn::Adam& adam_;
    nn::Ema& ema_;
    const TrainingImages& images_;
    DType compute_;
    std::int64_t timesteps_;
    Tensor signal_, sigma_;  // [T]
    DeviceValue<StepInputs> inputs_;
    DeviceValue<kernels::StepSums> sums_;
    RecordedWork work_;
};

}  // namespace ito::diffusion
