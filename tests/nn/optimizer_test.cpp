#include "nn/optimizer.h"
#include "core/autograd/engine.h"
#include "core/context.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "nn/init.h"
#include "nn/layers.h"
#include "nn/lr_schedule.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito::nn {
namespace {

using testing::bitwise_equal;
using testing::expect_error;
using testing::normal;
using testing::relative_l2;
using testing::values_of;

/// Two linear layers whose sizes leave gaps in the flat buffer.
struct Net : Module {
    std::shared_ptr<Linear> a = add_module("a", std::make_shared<Linear>(3, 5));
    std::shared_ptr<Linear> b = add_module("b", std::make_shared<Linear>(5, 2));

    explicit Net(std::uint64_t seed = 1) { initialize(*this, seed); }
    Tensor loss(const Tensor& x) const {
        const Tensor y = b->forward(a->forward(x));
        return ops::sum(ops::multiply(y, y));
    }
};

const Tensor input = normal({4, 3}, 1, DType::float32);

TEST(FlatParameters, KeepsValuesAndHandles) {
    Net net;
    std::vector<Tensor> before, handles;
    for (const auto& parameter : net.parameters()) {
        before.push_back(parameter.tensor.clone());
        handles.push_back(parameter.tensor);
    }
    const double loss = net.loss(input).item();
    FlatParameters flat(net);
    EXPECT_EQ(flat.values().numel(), 16 + 16 + 16 + 16);
    EXPECT_EQ(net.loss(input).item(), loss);
    for (std::size_t i = 0; i < handles.size(); ++i) {
        EXPECT_TRUE(bitwise_equal(handles[i], before[i]));
        EXPECT_EQ(handles[i].storage(), flat.values().storage());
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(handles[i].raw()) % 64, 0u);
        EXPECT_TRUE(handles[i].requires_grad());
    }
    flat.values().fill_(2);
    EXPECT_EQ(values_of(net.parameters()[3].tensor), (std::vector<double>{2, 2}));
    EXPECT_EQ(values_of(flat.named_views(flat.values())[3].tensor), (std::vector<double>{2, 2}));
    EXPECT_EQ(flat.named_views(flat.values())[3].name, "b.bias");
    expect_error([&] { flat.named_views(Tensor::zeros({3})); }, {"[3]", "[64]"});
    struct Empty : Module {
    } empty;
    expect_error([&] { FlatParameters none(empty); }, {"no parameters"});
}

TEST(FlatParameters, GradientsAreOneBuffer) {
    Net plain, net;
    autograd::backward(plain.loss(input));
    FlatParameters flat(net);
    autograd::backward(net.loss(input));
    const auto expect_same = [&](double factor) {
        const auto gradients = values_of(flat.gradients());
        double sum = 0, expected_sum = 0;
        for (const double g : gradients) sum += std::abs(g);
        for (std::size_t i = 0; i < plain.parameters().size(); ++i) {
            const auto expected = values_of(plain.parameters()[i].tensor.grad());
            EXPECT_EQ(values_of(net.parameters()[i].tensor.grad()).size(), expected.size());
            for (std::size_t k = 0; k < expected.size(); ++k) {
                EXPECT_NEAR(values_of(flat.named_views(flat.gradients())[i].tensor)[k], factor * expected[k],
                            1e-5 * (1 + std::abs(expected[k])));
                expected_sum += std::abs(factor * expected[k]);
            }
        }
        EXPECT_NEAR(sum, expected_sum, 1e-4 * expected_sum) << "the gaps are not zero";
    };
    expect_same(1);
    autograd::backward(net.loss(input));
    expect_same(2);
    flat.zero_grad();
    autograd::backward(net.loss(input));
    expect_same(1);
    // A gradient that backward does not reach is zero, not that of the step before.
    flat.zero_grad();
    autograd::backward(ops::sum(net.a->forward(input)));
    for (const double g : values_of(flat.named_views(flat.gradients())[2].tensor)) EXPECT_EQ(g, 0);
    EXPECT_NE(values_of(flat.named_views(flat.gradients())[1].tensor)[0], 0);
}

TEST(FlatParameters, SwapThereAndBack) {
    Net net;
    FlatParameters flat(net);
    Tensor other = normal(flat.values().shape(), 7, DType::float32);
    const Tensor values = flat.values().clone(), others = other.clone();
    {
        const auto version = flat.values().version();
        FlatParameters::Swap swap(flat, other);
        EXPECT_TRUE(bitwise_equal(flat.values(), others));
        EXPECT_TRUE(bitwise_equal(other, values));
        EXPECT_GT(net.parameters()[0].tensor.version(), version);
    }
    EXPECT_TRUE(bitwise_equal(flat.values(), values));
    EXPECT_TRUE(bitwise_equal(other, others));
    Tensor small = Tensor::zeros({3});
    expect_error([&] { FlatParameters::Swap swap(flat, small); }, {"cannot swap", "[3]"});
}

/// Exchanging back happens in a destructor, so it must not allocate.
TEST(FlatParameters, SwappingBackTakesNoMemory) {
    Net net;
    FlatParameters flat(net);
    Tensor other = normal(flat.values().shape(), 7, DType::float32);
    const auto allocator = allocator_of(Device::cpu());
    std::size_t before = 0;
    {
        const FlatParameters::Swap swap(flat, other);
        before = allocator->stats().allocations;
    }
    EXPECT_EQ(allocator->stats().allocations, before);
}

/// A tensor registered twice would have two places in the buffer, of which training updates one.
TEST(FlatParameters, RefusesOneTensorUnderTwoNames) {
    struct Tied : Module {
        std::shared_ptr<Linear> a = add_module("a", std::make_shared<Linear>(3, 3));
        std::shared_ptr<Linear> b = add_module("b", a);
    } tied;
    expect_error([&] { FlatParameters flat(tied); }, {"a.weight", "b.weight", "one tensor"});
}

TEST(FlatParameters, ForgetsDerivedDataOfTheOldStorage) {
    struct One : Module {
        Tensor w = add_parameter("w", {4}, Init::zeros());
    } module;
    int made = 0;
    const auto make = [&](const Tensor&) { ++made; };
    while (Tensor(module.w).version() < 2) Tensor(module.w).bump_version();
    module.w.derived("packed", 8, make);
    FlatParameters flat(module);
    while (Tensor(module.w).version() < 2) Tensor(module.w).bump_version();
    module.w.derived("packed", 8, make);
    EXPECT_EQ(made, 2);
    module.w.derived("packed", 8, make);
    EXPECT_EQ(made, 2);
    flat.release_derived();
    module.w.derived("packed", 8, make);
    EXPECT_EQ(made, 3);
}

/// Adam and the EMA in plain float64.
struct Reference {
    explicit Reference(const std::vector<double>& start)
        : p(start), m(start.size()), v(start.size()), ema(start) {}
    void step(const std::vector<double>& grad, double lr, double scale, const ops::AdamOptions& o,
              double decay) {
        ++steps;
        for (std::size_t i = 0; i < p.size(); ++i) {
            double g = scale * grad[i];
            if (o.decoupled)
                p[i] -= lr * o.weight_decay * p[i];
            else
                g += o.weight_decay * p[i];
            m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
            v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
            p[i] -= lr * (m[i] / (1 - std::pow(o.beta1, steps))) /
                    (std::sqrt(v[i] / (1 - std::pow(o.beta2, steps))) + o.eps);
            ema[i] = decay * ema[i] + (1 - decay) * p[i];
        }
    }
    std::vector<double> p, m, v, ema;
    int steps = 0;
};

TEST(Adam, FollowsTheFormula) {
    for (const bool decoupled : {false, true}) {
        for (const double weight_decay : {0.0, 0.1}) {
            Net net;
            FlatParameters flat(net);
            const ops::AdamOptions options{.beta1 = 0.8,
                                           .beta2 = 0.97,
                                           .eps = 1e-7,
                                           .weight_decay = weight_decay,
                                           .decoupled = decoupled};
            Adam adam(flat, options);
            Ema ema(flat, 0.9);
            Reference reference(values_of(flat.values()));
            for (int step = 0; step < 10; ++step) {
                flat.zero_grad();
                autograd::backward(
                    net.loss(normal({4, 3}, static_cast<std::uint64_t>(step), DType::float32)));
                const double norm = std::sqrt(ops::sum_squares(flat.gradients()).item());
                const double lr = 0.01 * (step + 1), scale = step % 3 ? 1 : 0.5;
                const double decay = std::min(0.9, (1.0 + step) / (10.0 + step));
                EXPECT_DOUBLE_EQ(ema.decay_of_next_update(), decay);
                reference.step(values_of(flat.gradients()), lr, scale, options, decay);
                const auto version = flat.values().version();
                const Tensor measured = adam.step(lr, step % 3 ? 0 : scale * norm, &ema);
                EXPECT_DOUBLE_EQ(measured.item(), norm);
                EXPECT_GT(flat.values().version(), version);
                EXPECT_EQ(adam.steps(), step + 1);
                EXPECT_EQ(ema.updates(), step + 1);
                const auto compare = [&](const Tensor& a, const std::vector<double>& b, const char* what) {
                    EXPECT_LE(relative_l2(a, Tensor::from(b, a.shape())), 5e-6)
                        << what << " at step " << step << (decoupled ? " decoupled" : "");
                };
                compare(flat.values(), reference.p, "param");
                compare(adam.m(), reference.m, "m");
                compare(adam.v(), reference.v, "v");
                compare(ema.average(), reference.ema, "ema");
            }
            EXPECT_GT(relative_l2(flat.values(), ema.average()), 1e-3);
        }
    }
}

TEST(Adam, ResumesBitwise) {
    const auto run = [](bool interrupted) {
        Net net;
        FlatParameters flat(net);
        auto adam = std::make_unique<Adam>(flat);
        for (int step = 0; step < 6; ++step) {
            if (interrupted && step == 3) {
                auto resumed = std::make_unique<Adam>(flat);
                Tensor m = resumed->m(), v = resumed->v();
                m.copy_(adam->m());
                v.copy_(adam->v());
                resumed->set_steps(adam->steps());
                adam = std::move(resumed);
            }
            flat.zero_grad();
            autograd::backward(net.loss(input));
            adam->step(0.01);
        }
        return flat.values().clone();
    };
    EXPECT_TRUE(bitwise_equal(run(true), run(false)));
}

TEST(Adam, RefusesOptionsOutOfRange) {
    Net net;
    FlatParameters flat(net);
    expect_error([&] { Adam(flat, {.beta1 = 1}); }, {"betas", "[0, 1)"});
    expect_error([&] { Adam(flat, {.weight_decay = -1}); }, {"weight decay is -1", "0 or more"});
    expect_error([&] { Adam(flat, {.eps = 0}); }, {"eps is 0", "positive"});
    struct Wide : Module {
        Tensor w = add_parameter("w", {100}, Init::zeros());
    } wide;
    FlatParameters larger(wide);
    Ema average(flat, 0.9);
    Adam adam(larger);
    expect_error([&] { adam.step(0.1, 0, &average); }, {"adam", "ema", "[64]", "[112]"});
    EXPECT_EQ(adam.steps(), 0) << "a step that was refused was counted";
    EXPECT_EQ(average.updates(), 0);
    expect_error([&] { Ema(flat, 1); }, {"EMA", "1", "[0, 1)"});
}

TEST(Clip, BringsTheNormDown) {
    EXPECT_EQ(kernels::clip_factor(0.5, 1), 1);
    EXPECT_EQ(kernels::clip_factor(1, 1), 1);
    EXPECT_EQ(kernels::clip_factor(4, 1), 0.25);
    EXPECT_EQ(kernels::clip_factor(4, 0), 1) << "0 means no clipping";
    EXPECT_EQ(kernels::clip_factor(0, 0), 1);
    for (const double norm : {std::nan(""), std::numeric_limits<double>::infinity()})
        for (const double max_norm : {0.0, 1.0})
            EXPECT_TRUE(std::isnan(kernels::clip_factor(norm, max_norm)));
}

TEST(Clip, AGradientThatIsNotFiniteChangesNothing) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
        Net net;
        FlatParameters flat(net);
        Adam adam(flat);
        Ema ema(flat, 0.9);
        autograd::backward(net.loss(input));
        adam.step(0.1, 1, &ema);
        const auto p = values_of(flat.values()), m = values_of(adam.m()), v = values_of(adam.v()),
                   average = values_of(ema.average());
        Tensor(flat.gradients()).data<float>()[3] = bad;
        const double norm = adam.step(0.1, 1, &ema).item();
        EXPECT_FALSE(std::isfinite(norm));
        EXPECT_EQ(values_of(flat.values()), p);
        EXPECT_EQ(values_of(adam.m()), m);
        EXPECT_EQ(values_of(adam.v()), v);
        EXPECT_EQ(values_of(ema.average()), average);
    }
}

TEST(LrSchedule, Ends) {
    EXPECT_EQ((LrSchedule{.peak = 2, .total = 10}.at(9)), 2);
    const LrSchedule warm{.peak = 2, .warmup = 4, .total = 10};
    EXPECT_DOUBLE_EQ(warm.at(0), 0.5);
    EXPECT_DOUBLE_EQ(warm.at(3), 2);
    EXPECT_DOUBLE_EQ(warm.at(4), 2);
    for (const auto decay : {LrDecay::linear, LrDecay::cosine}) {
        const LrSchedule schedule{.peak = 2, .decay = decay, .warmup = 4, .total = 14};
        EXPECT_DOUBLE_EQ(schedule.at(4), 2);
        EXPECT_NEAR(schedule.at(9), 1, 1e-12);
        EXPECT_GT(schedule.at(13), 0) << "the last step must still learn";
        EXPECT_NEAR(schedule.at(14), 0, 1e-12);
        EXPECT_NEAR(schedule.at(1000), 0, 1e-12);
        for (int step = 4; step < 14; ++step) EXPECT_GT(schedule.at(step), schedule.at(step + 1));
    }
    EXPECT_EQ(parse_lr_decay("cosine"), LrDecay::cosine);
    EXPECT_EQ(parse_lr_decay("linear"), LrDecay::linear);
    EXPECT_EQ(parse_lr_decay("constant"), LrDecay::constant);
    expect_error([] { parse_lr_decay("step"); }, {"step", "constant, linear or cosine"});
}

}  // namespace
}  // namespace ito::nn
