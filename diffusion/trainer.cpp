// Algorithm 1 of Ho et al. 2020, in forward_backward():
//
//   x_0 ~ data, t ~ Uniform(0 .. T - 1), eps ~ N(0, I)
//   x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps             ops::noising
//   gradient of |eps - model(x_t, t)|^2                       ops::mse_loss, which draws eps again, and backward
//
// step() repeats that for every micro-batch of a step, clips the gradient and applies Adam and the EMA. The rest of the
// file is checkpoints.

#include "diffusion/trainer.h"

#include <cmath>
#include <utility>

#include "core/atomic_file.h"
#include "core/autograd/engine.h"
#include "core/mapped_file.h"
#include "core/ops/mse_loss.h"
#include "core/ops/noising.h"
#include "core/ops/random.h"
#include "core/random.h"
#include "core/trace.h"
#include "diffusion/sampler.h"
#include "nn/init.h"
#include "nn/state.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

namespace {

std::shared_ptr<nn::UNet> new_model(const TrainConfig& config, const nn::UNetConfig& unet) {
    auto model = std::make_shared<nn::UNet>(unet);
    nn::initialize(*model, config.seed);
    return model;
}

/// The per-timestep factors of the closed form as float32 tables.
Tensor table(const NoiseSchedule& schedule, double (NoiseSchedule::*value)(std::int64_t) const) {
    std::vector<float> values;
    for (std::int64_t t = 0; t < schedule.timesteps(); ++t)
        values.push_back(static_cast<float>((schedule.*value)(t)));
    return Tensor::from(values, {schedule.timesteps()});
}

/// The pixels as a tensor; the data set's own are freed.
Tensor take_images(Dataset& data) {
    const std::vector<std::uint8_t> images = std::exchange(data.images, {});
    return Tensor::from(images, {data.count, data.height, data.width, data.channels});
}

void require_finite(const char* what, const Tensor& tensor, std::uint64_t step) {
    double sum = 0;  // of zeros: NaN as soon as a value is NaN or infinite
    for (const float value : tensor.to_vector<float>()) sum += 0.0 * static_cast<double>(value);
    if (std::isnan(sum))
        throw Diverged(fmt::format("training diverged: the {} are not finite after step {}", what, step));
}

/// Gives `file` the further name `name`, in place of what has it: a link where the file system knows links, else
/// a copy.
void replace_by_link(const fs::path& file, const fs::path& name) {
    const fs::path link = fmt::format("{}.tmp", name.string());
    std::error_code error, ignored;
    fs::remove(link, ignored);
    fs::create_hard_link(file, link, error);
    if (error) {
        const MappedFile content(file);
        write_file_atomically(name, content.bytes());
    } else {
        rename_durably(link, name);
        fs::remove(link, ignored);  // still there if both names were the same file's already
    }
}

}  // namespace

Trainer::Trainer(const TrainConfig& config, Dataset dataset)
    : Trainer(config, config.unet(dataset.height, dataset.width, dataset.channels), std::move(dataset)) {}

Trainer::Trainer(const TrainConfig& config, const nn::UNetConfig& unet, Dataset&& dataset)
    : config_(config),
      dataset_(std::move(dataset)),
      schedule_(config.scheduler().schedule),
      model_(new_model(config, unet)),
      parameters_(*model_),
      adam_(parameters_, {.weight_decay = config.weight_decay, .decoupled = config.weight_decay > 0}),
      ema_(parameters_, config.ema),
      lr_{.peak = config.lr,
          .decay = nn::parse_lr_decay(config.lr_schedule),
          .warmup = config.warmup,
          .total = config.steps},
      order_(dataset_.count, config.seed),
      images_(take_images(dataset_)),
      signal_(table(schedule_, &NoiseSchedule::signal)),
      sigma_(table(schedule_, &NoiseSchedule::sigma)) {}

Dataset Trainer::images(const std::vector<std::int64_t>& indices) const {
    Dataset some{.count = static_cast<std::int64_t>(indices.size()),
                 .height = dataset_.height,
                 .width = dataset_.width,
                 .channels = dataset_.channels,
                 .images = {},
                 .labels = {},
                 .label_names = {}};
    for (const std::int64_t i : indices) {
        const auto image = images_.slice(0, i, 1).to_vector<std::uint8_t>();
        some.images.insert(some.images.end(), image.begin(), image.end());
    }
    return some;
}

double Trainer::data_second_moment() const {
    const auto* bytes = images_.data<std::uint8_t>();
    double sum = 0;
    for (std::int64_t i = 0; i < images_.numel(); ++i) {
        const double x = bytes[i] / 127.5 - 1;
        sum += x * x;
    }
    return sum / static_cast<double>(images_.numel());
}

double Trainer::forward_backward(std::int64_t micro_batch, LossByTimestep& by_timestep) {
    // Samples are numbered through the whole step: cutting it into micro-batches changes no draw.
    const auto first = static_cast<std::uint64_t>(micro_batch * config_.batch);
    const RandomStream stream{.seed = config_.seed, .first_sample = first, .step = &step_};
    const RandomScope scope(stream);

    trace::Span phase(trace::Kind::phase, "data");
    const auto position = step_ * static_cast<std::uint64_t>(images_per_step()) + first;
    Tensor t = Tensor::empty({config_.batch}, DType::int64);
    ops::fill_integers(t, stream.at(kernels::Purpose::timestep), schedule_.timesteps());
    const auto noise = stream.at(kernels::Purpose::noise);
    const Tensor x_t =
        ops::noising({.images = images_,
                      .index = Tensor::from(order_.batch(position, config_.batch), {config_.batch}),
                      .flip = config_.flip,
                      .t = t,
                      .signal = signal_,
                      .sigma = sigma_,
                      .noise = noise});
    phase.next("forward");
    const auto result = ops::mse_loss(model_->forward(x_t, t), noise);
    phase.next("backward");
    const double share = 1.0 / static_cast<double>(config_.grad_accum);
    autograd::backward(result.loss, Tensor::full({}, share));
    const auto timesteps = t.to_vector<std::int64_t>();
    const auto losses = result.per_sample.to_vector<float>();
    for (std::size_t n = 0; n < timesteps.size(); ++n)
        by_timestep.add(timesteps[n], schedule_.timesteps(), losses[n]);
    return result.loss.item() * share;
}

StepMetrics Trainer::step() {
    const trace::Span whole(trace::Kind::phase, "step");
    parameters_.zero_grad();
    StepMetrics metrics;
    for (std::int64_t i = 0; i < config_.grad_accum; ++i)
        metrics.loss += forward_backward(i, metrics.by_timestep);
    const trace::Span phase(trace::Kind::phase, "optimizer");
    metrics.lr = lr_.at(static_cast<std::int64_t>(step_));
    metrics.grad_norm = nn::gradient_norm(parameters_);
    if (!std::isfinite(metrics.loss) || !std::isfinite(metrics.grad_norm))
        throw Diverged(fmt::format("training diverged at step {}: loss {}, gradient norm {}", step_ + 1,
                                   std::abs(metrics.loss), std::abs(metrics.grad_norm)));  // no "-nan"
    adam_.step(metrics.lr, nn::clip_factor(metrics.grad_norm, config_.clip), &ema_);
    metrics.step = static_cast<std::int64_t>(++step_);
    window_.add(metrics.loss, metrics.grad_norm, metrics.by_timestep);
    return metrics;
}

Tensor Trainer::sample(std::int64_t count, std::int64_t sampling_steps,
                       const std::function<bool()>& keep_going) {
    const auto timesteps = spaced_timesteps(schedule_.timesteps(), sampling_steps);
    const ReverseProcess process(schedule_, timesteps);
    const auto on_step = [&](std::int64_t, std::int64_t, const Tensor&, const Tensor&) {
        return keep_going();
    };
    const nn::FlatParameters::Swap swap(parameters_, ema_.average());
    Tensor images = diffusion::sample(
        *model_, process, {.count = count, .batch = config_.batch, .seed = config_.seed, .on_step = on_step});
    parameters_.release_derived();
    return images;
}

void Trainer::write_checkpoint(const fs::path& folder) const {
    nn::save_tensors(folder / "weights.safetensors", parameters_.named_views(parameters_.values()));
    nn::save_tensors(folder / "ema.safetensors", parameters_.named_views(ema_.average()));
    nn::save_tensors(folder / "adam_m.safetensors", parameters_.named_views(adam_.m()));
    nn::save_tensors(folder / "adam_v.safetensors", parameters_.named_views(adam_.v()));
    const TrainerState state{.step = steps_done(),
                             .total_steps = lr_.total,
                             .adam_steps = adam_.steps(),
                             .ema_updates = ema_.updates(),
                             .dataset = dataset_size(),
                             .window = window_};
    write_file_atomically(folder / "state.json", state.to_json());
}

void Trainer::save(const Run& run) const {
    const fs::path checkpoint = run.checkpoint(steps_done());
    remove_abandoned(run.trainer());  // a full disk may need the space
    if (!fs::exists(checkpoint)) {    // it does after a resume that had no step left: the same bits
        require_finite("weights", parameters_.values(), step_);
        require_finite("averaged weights", ema_.average(), step_);
        require_finite("first moments", adam_.m(), step_);
        require_finite("second moments", adam_.v(), step_);
        AtomicFolder folder(checkpoint);
        write_checkpoint(folder.path());
        folder.commit();
    }
    replace_by_link(checkpoint / "ema.safetensors", run.unet_weights());
    run.keep_latest_checkpoints(config_.keep);
}

void Trainer::load(const fs::path& checkpoint) {
    const fs::path file = checkpoint / "state.json";
    const TrainerState state = TrainerState::from_json(read_text(file), file.string());
    if (const auto named = step_of_checkpoint(checkpoint))
        require(state.step == *named, "{}: \"step\" is {}, the folder's name says {}", file.string(),
                state.step, *named);
    const auto here = dataset_size();
    require(state.dataset == here,
            "{}: trained on a data set of size [{}], it has [{}] now ([images, height, width, channels])",
            file.string(), fmt::join(state.dataset, ","), fmt::join(here, ","));
    nn::load_tensors(checkpoint / "weights.safetensors", parameters_.named_views(parameters_.values()));
    nn::load_tensors(checkpoint / "ema.safetensors", parameters_.named_views(ema_.average()));
    nn::load_tensors(checkpoint / "adam_m.safetensors", parameters_.named_views(adam_.m()));
    nn::load_tensors(checkpoint / "adam_v.safetensors", parameters_.named_views(adam_.v()));
    step_ = static_cast<std::uint64_t>(state.step);
    window_ = state.window;
    lr_.total = state.total_steps;
    adam_.set_steps(state.adam_steps);
    ema_.set_updates(state.ema_updates);
}

}  // namespace ito::diffusion
