// A network of the reader's own: learns y = sin(3 x0) + x1 from 64 points, and says what the loss was before and
// after. Fails if it did not fall to a hundredth.

#include <cmath>
#include <cstdio>

#include "core/autograd/engine.h"
#include "core/ops/mse_loss.h"
#include "nn/init.h"
#include "nn/layers.h"
#include "nn/optimizer.h"

namespace {

using namespace ito;

class Mlp : public nn::Module {
  public:
    explicit Mlp(std::int64_t hidden)
        : in_(add_module("in", std::make_shared<nn::Linear>(2, hidden))),
          out_(add_module("out", std::make_shared<nn::Linear>(hidden, 1))) {}

    Tensor forward(const Tensor& x) const { return out_->forward(silu_.forward(in_->forward(x))); }

  private:
    std::shared_ptr<nn::Linear> in_, out_;
    nn::Silu silu_;
};

}  // namespace

int main() {
    std::vector<float> inputs, targets;
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) {
            const float a = static_cast<float>(i) / 4 - 1, b = static_cast<float>(j) / 4 - 1;
            inputs.insert(inputs.end(), {a, b});
            targets.push_back(std::sin(3 * a) + b);
        }
    const Tensor x = Tensor::from(inputs, {64, 2}), y = Tensor::from(targets, {64, 1});

    Mlp model(32);
    nn::initialize(model, 1);
    nn::FlatParameters parameters(model);
    nn::Adam optimizer(parameters);
    double first = 0, last = 0;
    for (int step = 0; step < 500; ++step) {
        const Tensor loss = ops::mse_loss(model.forward(x), y).loss;
        last = loss.item();
        if (step == 0) first = last;
        parameters.zero_grad();
        autograd::backward(loss);
        optimizer.step(1e-2);
    }
    std::printf("%lld parameters, loss %.4f -> %.6f\n", static_cast<long long>(model.parameter_count()),
                first, last);
    return last < first / 100 ? 0 : 1;
}
