#include "diffusion/training/trainer.h"

#include <cmath>
#include <utility>

#include "core/trace.h"
#include "diffusion/solvers/sampler.h"
#include "nn/init.h"

namespace ito::diffusion {
namespace {

std::shared_ptr<nn::UNet> new_model(const TrainConfig& config, const nn::UNetConfig& unet, Device device) {
    auto model = std::make_shared<nn::UNet>(unet);
    nn::initialize(*model, config.run.seed);  // on the host: the same bits for every device
    model->to(device);
    return model;
}

/// Throws Diverged if a step was not finite.
MetricsWindow window_of(const kernels::StepSums& sums) {
    if (sums.bad_step > 0)
        throw Diverged(fmt::format("training diverged at step {}: loss {}, gradient norm {}", sums.bad_step,
                                   std::abs(sums.bad_loss), std::abs(sums.bad_norm)));  // no "-nan"
    MetricsWindow window{
        .steps = sums.steps, .loss = sums.loss, .grad_norm = sums.grad_norm, .by_timestep = {}};
    std::copy(std::begin(sums.loss_of), std::end(sums.loss_of), window.by_timestep.loss.begin());
    std::copy(std::begin(sums.samples_of), std::end(sums.samples_of), window.by_timestep.samples.begin());
    return window;
}

kernels::StepSums sums_of(const MetricsWindow& window) {
    kernels::StepSums sums{.steps = window.steps, .loss = window.loss, .grad_norm = window.grad_norm};
    std::copy(window.by_timestep.loss.begin(), window.by_timestep.loss.end(), std::begin(sums.loss_of));
    std::copy(window.by_timestep.samples.begin(), window.by_timestep.samples.end(),
              std::begin(sums.samples_of));
    return sums;
}

}  // namespace

Trainer::Trainer(const TrainConfig& config, Dataset dataset, const TrainerOptions& options)
    : Trainer(config,
              ModelConfig{config.unet(dataset.height, dataset.width, dataset.channels), config.scheduler()},
              std::move(dataset), options) {}

Trainer::Trainer(const TrainConfig& config, const ModelConfig& model, Dataset&& dataset,
                 const TrainerOptions& options)
    : config_(config),
      options_(options),
      scheduler_(model.scheduler),
      schedule_(model.scheduler.schedule),
      images_(std::move(dataset), options.computation.device, images_per_step(), options.images),
      model_(new_model(config, model.unet, options.computation.device)),
      parameters_(*model_, options.computation.type()),
      adam_(parameters_, {.beta1 = config.optimizer.adam_beta1,
                          .beta2 = config.optimizer.adam_beta2,
                          .weight_decay = config.optimizer.weight_decay,
                          .decoupled = config.optimizer.weight_decay > 0}),
      ema_(parameters_, config.optimizer.ema),
      lr_{.peak = config.optimizer.lr,
          .decay = nn::parse_lr_decay(config.optimizer.lr_schedule),
          .warmup = config.optimizer.warmup,
          .total = config.run.steps},
      order_(images_.count(), config.run.seed),
      work_(config_, schedule_, *model_, parameters_, adam_, ema_, images_, options.computation.type(),
            options.graph),
      pacer_(options.computation.device) {}

void Trainer::begin_from(const nn::UNet& model) {
    const auto from = model.named_parameters();
    const auto to = model_->named_parameters();
    require(from.size() == to.size(), "training: {} tensors to begin from, the network has {}", from.size(),
            to.size());
    for (std::size_t i = 0; i < to.size(); ++i) {
        Tensor values = to[i].tensor;
        values.copy_(from[i].tensor);
    }
    parameters_.refresh_compute_values();
    ema_.average().copy_(parameters_.values());
}

std::vector<std::int64_t> Trainer::indices_of(std::uint64_t step) {
    return order_.batch(step * static_cast<std::uint64_t>(images_per_step()), images_per_step());
}

void Trainer::step() {
    const trace::Span whole(trace::Kind::phase, "step");
    images_.select(indices_of(step_),
                   images_.on_device() ? std::vector<std::int64_t>() : indices_of(step_ + 1));
    work_.run(step_, lr_.at(steps_done()));
    window_at_hand();  // throws if the step diverged
    ++step_;
    pacer_.step();
}

MetricsWindow Trainer::window() const {
    return window_of(work_.sums().get());
}

std::optional<MetricsWindow> Trainer::window_at_hand() const {
    if (options_.computation.device.is_cuda()) return {};
    return window();
}

MetricsWindow Trainer::take_window() {
    const MetricsWindow taken = window();
    work_.sums().set({});
    return taken;
}

void Trainer::log_window() {
    if (free_reads_.empty()) free_reads_.push_back(std::make_unique<DeferredRead<kernels::StepSums>>());
    auto read = std::move(free_reads_.back());
    free_reads_.pop_back();
    read->begin(work_.sums());
    work_.sums().set({});
    pending_.push_back({steps_done(), last_lr(), std::move(read)});
}

std::optional<LoggedWindow> Trainer::logged_window(bool wait) {
    if (pending_.empty() || !(wait || pending_.front().sums->ready())) return {};
    Pending first = std::move(pending_.front());
    pending_.pop_front();
    const kernels::StepSums sums = first.sums->get();
    free_reads_.push_back(std::move(first.sums));
    return LoggedWindow{first.step, first.lr, window_of(sums)};
}

Tensor Trainer::sample(std::int64_t count, std::int64_t sampling_steps,
                       const std::function<bool()>& keep_going) {
    const ReverseProcess process = preview_process(scheduler_, sampling_steps);
    const auto on_step = [&](std::int64_t, std::int64_t, const Tensor&, const Tensor&) {
        return keep_going();
    };
    const nn::FlatParameters::Swap swap(parameters_, ema_.average());
    Tensor images = diffusion::sample(*model_, process,
                                      {.count = count,
                                       .batch = config_.optimizer.batch,
                                       .seed = config_.run.seed,
                                       .compute = options_.computation.type(),
                                       .graph = options_.graph,
                                       .on_step = on_step});
    parameters_.release_derived();
    return images;
}

void Trainer::save(const Run& run) {
    const TrainerState state{.step = steps_done(),
                             .total_steps = lr_.total,
                             .adam_steps = 0,
                             .ema_updates = 0,
                             .dataset = images_.size(),
                             .window = window()};
    Checkpoint(parameters_, adam_, ema_).save(run, state, config_.run.keep);
}

void Trainer::load(const std::filesystem::path& folder, ImageCount images) {
    const TrainerState state = Checkpoint(parameters_, adam_, ema_).load(folder, images_.size(), images);
    step_ = static_cast<std::uint64_t>(state.step);
    lr_.total = state.total_steps;
    work_.sums().set(sums_of(state.window));
}

}  // namespace ito::diffusion
