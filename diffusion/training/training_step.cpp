#include "diffusion/training/training_step.h"

#include "core/autograd/engine.h"
#include "core/ops/mse_loss.h"
#include "core/ops/noising.h"
#include "core/ops/random.h"
#include "core/ops/step_metrics.h"
#include "core/random.h"
#include "core/trace.h"

namespace ito::diffusion {
namespace {

/// The per-timestep factors of the closed form as float32 tables.
Tensor table(const NoiseSchedule& schedule, double (NoiseSchedule::*value)(std::int64_t) const,
             Device device) {
    std::vector<float> values;
    for (std::int64_t t = 0; t < schedule.timesteps(); ++t)
        values.push_back(static_cast<float>((schedule.*value)(t)));
    return Tensor::from(values, {schedule.timesteps()}, device);
}

}  // namespace

TrainingStep::TrainingStep(const TrainConfig& config, const NoiseSchedule& schedule, const nn::UNet& model,
                           nn::FlatParameters& parameters, nn::Adam& adam, nn::Ema& ema,
                           const TrainingImages& images, DType compute, bool record)
    : config_(config),
      model_(model),
      parameters_(parameters),
      adam_(adam),
      ema_(ema),
      images_(images),
      compute_(compute),
      timesteps_(schedule.timesteps()),
      signal_(table(schedule, &NoiseSchedule::signal, parameters.values().device())),
      sigma_(table(schedule, &NoiseSchedule::sigma, parameters.values().device())),
      inputs_(parameters.values().device(), {}),
      sums_(parameters.values().device(), {}),
      work_(parameters.values().device(), record) {}

void TrainingStep::forward_backward(std::int64_t micro_batch) {
    // Samples are numbered through the whole step: cutting it into micro-batches changes no draw.
    const std::int64_t first = micro_batch * config_.optimizer.batch;
    const RandomStream stream{.seed = config_.run.seed,
                              .first_sample = static_cast<std::uint64_t>(first),
                              .step = inputs_.pointer(&StepInputs::step)};
    const RandomScope scope(stream);
    const Device device = parameters_.values().device();

    trace::Span phase(trace::Kind::phase, "data");
    Tensor t = Tensor::empty({config_.optimizer.batch}, DType::int64, device);
    ops::fill_integers(t, stream.at(kernels::Purpose::timestep), timesteps_);
    const auto noise = stream.at(kernels::Purpose::noise);
    const Tensor x_t = ops::noising({.images = images_.images(),
                                     .index = images_.index().slice(0, first, config_.optimizer.batch),
                                     .flip = config_.data.flip,
                                     .t = t,
                                     .signal = signal_,
                                     .sigma = sigma_,
                                     .noise = noise,
                                     .type = compute_});
    phase.next("forward");
    const auto result = ops::mse_loss(model_.forward(x_t, t), noise);
    phase.next("backward");
    const double share = 1.0 / static_cast<double>(config_.optimizer.grad_accum);
    autograd::backward(result.loss, Tensor::full({}, share, DType::float32, device));
    ops::step_losses(result.loss.detach(), result.per_sample, t, timesteps_, share, sums_.pointer());
}

void TrainingStep::work() {
    parameters_.zero_grad();
    for (std::int64_t i = 0; i < config_.optimizer.grad_accum; ++i) forward_backward(i);
    const trace::Span phase(trace::Kind::phase, "optimizer");
    const Tensor norm = adam_.apply(inputs_.pointer(&StepInputs::adam), config_.optimizer.clip, &ema_);
    ops::step_end(norm, inputs_.pointer(&StepInputs::step), sums_.pointer());
}

void TrainingStep::run(std::uint64_t step, double lr) {
    inputs_.set({.step = step, .adam = adam_.inputs(lr, &ema_)});
    work_.run([this] { work(); });
    adam_.count_step(&ema_);
}

}  // namespace ito::diffusion
