// Algorithm 2 of Ho et al. 2020:
//
//   x_T ~ N(0, I)
//   for every timestep t of the chain, from the last to the first:
//       eps     = model(x_t, t)
//       x_{t-1} = posterior mean of x_{t-1} given x_t and the estimate of x_0 that eps implies, plus sigma_t z
//
// The second line is one kernel, ops::reverse_step; its coefficients come from the ReverseProcess (schedule.h).

#include "diffusion/sampler.h"

#include <algorithm>

#include "core/autograd/node.h"
#include "core/ops/random.h"
#include "core/ops/reverse_step.h"

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
    Tensor result = Tensor::empty({options.count, image[0], image[1], image[2]});
    for (std::int64_t begin = 0; begin < options.count; begin += options.batch) {
        const std::int64_t size = std::min(options.batch, options.count - begin);
        const auto first = static_cast<std::uint64_t>(options.first + begin);
        Tensor x = Tensor::empty({size, image[0], image[1], image[2]});
        ops::fill_normal(x,
                         {.seed = options.seed, .purpose = kernels::Purpose::start, .first_sample = first});
        const Tensor x0 = options.on_step ? Tensor::like(x) : Tensor();
        for (std::int64_t i = 0; i < process.size(); ++i) {
            const auto t = process.transitions()[static_cast<std::size_t>(i)].t;
            const Tensor eps = model.forward(x, Tensor::full({size}, static_cast<double>(t), DType::int64));
            const auto step = static_cast<std::uint64_t>(t);
            ops::reverse_step(x, eps, process.coefficients(i, options.clip),
                              {.seed = options.seed,
                               .purpose = kernels::Purpose::reverse,
                               .first_sample = first,
                               .step = &step},
                              x0);
            if (options.on_step && !options.on_step(i, options.first + begin, x, x0))
                fail("sampling was interrupted at step {} of {}", i + 1, process.size());
        }
        result.slice(0, begin, size).copy_(x);
    }
    return result;
}

}  // namespace ito::diffusion
