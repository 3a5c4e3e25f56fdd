// Algorithm 2 of Ho et al. 2020:
//
//   x_T ~ N(0, I)
//   for every timestep t of the chain, from the last to the first:
//       eps     = model(x_t, t)
//       x_{t-1} = posterior mean of x_{t-1} given x_t and the estimate of x_0 that eps implies, plus sigma_t z
//
// The second line is one kernel, ops::reverse_step; its coefficients come from the ReverseProcess (schedule.h).

#include "diffusion/solvers/sampler.h"

#include <algorithm>

#include "core/autograd/node.h"
#include "core/device_value.h"
#include "core/ops/random.h"
#include "core/ops/reverse_step.h"
#include "core/pacer.h"
#include "core/recorded_work.h"

namespace ito::diffusion {

namespace {

/// Evaluation mode until the end of the scope, however it ends.
class Evaluating {
  public:
    explicit Evaluating(nn::UNet& model) : model_(model), before_(model.training()) { model.eval(); }
    ~Evaluating() { model_.train(before_); }
    Evaluating(const Evaluating&) = delete;
    Evaluating& operator=(const Evaluating&) = delete;

  private:
    nn::UNet& model_;
    bool before_;
};

/// What the kernels of a step read through pointers.
struct StepInputs {
    std::uint64_t t = 0;  ///< the address of its noise
    kernels::ReverseStepCoefficients coefficients;
};

/// One batch on its way from noise to images.
class Chain {
  public:
    /// `inputs` is on the model's device. `warm`: a batch of this size ran before.
    Chain(const nn::UNet& model, const SampleOptions& options, const Shape& image, std::int64_t begin,
          std::int64_t size, DeviceValue<StepInputs>& inputs, bool warm)
        : model_(model),
          inputs_(inputs),
          compute_(options.compute),
          seed_(options.seed),
          first_(static_cast<std::uint64_t>(options.first + begin)),
          x_(Tensor::empty({size, image[0], image[1], image[2]}, DType::float32, inputs.device())),
          t_(Tensor::empty({size}, DType::int64, inputs.device())),
          work_(inputs.device(), options.graph, warm ? 0 : RecordedWork::warm_up_runs) {
        ops::fill_normal(x_, {.seed = seed_, .purpose = kernels::Purpose::start, .first_sample = first_});
        if (options.on_step) x0_ = Tensor::like(x_);
    }

    void step(std::int64_t t, const kernels::ReverseStepCoefficients& coefficients) {
        inputs_.set({static_cast<std::uint64_t>(t), coefficients});
        t_.copy_(Tensor::full(t_.shape(), static_cast<double>(t), DType::int64));
        work_.run([this] {
            const Tensor eps = model_.forward(x_.to(compute_), t_);
            ops::reverse_step(x_, eps, inputs_.pointer(&StepInputs::coefficients),
                              {.seed = seed_,
                               .purpose = kernels::Purpose::reverse,
                               .first_sample = first_,
                               .step = inputs_.pointer(&StepInputs::t)},
                              x0_);
        });
    }

    const Tensor& x() const { return x_; }
    const Tensor& x0() const { return x0_; }

  private:
    const nn::UNet& model_;
    DeviceValue<StepInputs>& inputs_;
    DType compute_;
    std::uint64_t seed_, first_;
    Tensor x_, t_, x0_;
    RecordedWork work_;
};

}  // namespace

Tensor sample(nn::UNet& model, const ReverseProcess& process, const SampleOptions& options) {
    require(options.count >= 0 && options.batch >= 1 && options.first >= 0,
            "sample: {} images from {} in batches of {}; expected 0 or more, 0 or more, 1 or more",
            options.count, options.first, options.batch);
    const auto& config = model.config();
    const Shape image{options.height ? options.height : config.height,
                      options.width ? options.width : config.width, config.in_channels};
    const autograd::NoGrad no_grad;
    const Evaluating evaluating(model);
    const Device device = model.parameters().front().tensor.device();
    DeviceValue<StepInputs> inputs(device);
    Pacer pacer(device);
    Tensor result = Tensor::empty({options.count, image[0], image[1], image[2]});
    for (std::int64_t begin = 0; begin < options.count; begin += options.batch) {
        const std::int64_t size = std::min(options.batch, options.count - begin);
        const bool warm = begin > 0 && size == options.batch;
        Chain chain(model, options, image, begin, size, inputs, warm);
        for (std::int64_t i = 0; i < process.size(); ++i) {
            chain.step(process.transitions()[static_cast<std::size_t>(i)].t,
                       process.coefficients(i, options.clip));
            pacer.step();
            if (options.on_step && !options.on_step(i, options.first + begin, chain.x(), chain.x0()))
                fail("sampling was interrupted at step {} of {}", i + 1, process.size());
        }
        result.slice(0, begin, size).copy_(chain.x());
    }
    return result;
}

}  // namespace ito::diffusion
