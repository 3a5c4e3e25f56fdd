// Training and sampling as a whole: on real images, bitwise repeatable, resumable.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <random>

#include "core/context.h"
#include "core/memory/allocator.h"
#include "diffusion/pipeline/pipeline.h"
#include "diffusion/solvers/sampler.h"
#include "diffusion/training/trainer.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_training.h"

namespace ito::diffusion {
namespace {

using testing::tiny_config;
using testing::weights_of;

/// Smooth random blobs, so that there is something to learn. Not square.
Dataset blobs(std::int64_t count = 32, std::int64_t height = 8, std::int64_t width = 6) {
    Dataset data;
    data.count = count, data.height = height, data.width = width, data.channels = 1;
    std::mt19937 engine(1);
    std::uniform_real_distribution<double> where(1, 5);
    for (std::int64_t n = 0; n < count; ++n) {
        const double cy = where(engine), cx = where(engine);
        for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x) {
                const double d = std::hypot(static_cast<double>(y) - cy, static_cast<double>(x) - cx);
                data.images.push_back(static_cast<std::uint8_t>(255 * std::exp(-d * d / 4)));
            }
    }
    return data;
}

/// Does a step and returns its metrics.
MetricsWindow step(Trainer& trainer) {
    trainer.step();
    return trainer.take_window();
}

std::vector<float> samples_of(Trainer& trainer) {
    return trainer.sample(3, 10, [] { return true; }).to_vector<float>();
}

std::ptrdiff_t entries_in(const std::filesystem::path& folder) {
    return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

class Threads {
  public:
    explicit Threads(int count) : before_(threads()) { set_threads(count); }
    ~Threads() { set_threads(before_); }

  private:
    int before_;
};

TEST(Training, LossFallsOnRealImages) {
    Dataset data;
    try {
        data = load_dataset("fashion-mnist");
    } catch (const Error& error) {
        GTEST_SKIP() << error.what();
    }
    TrainConfig config;
    config.run.steps = 60;
    config.optimizer.batch = 16;
    config.model.base_channels = 16;
    config.model.channel_mults = {1, 2};
    config.model.layers_per_block = 1;
    config.optimizer.lr = 2e-3;
    config.run.seed = 1;
    Trainer trainer(config, std::move(data));
    double first = 0, last = 0;
    for (int i = 0; i < 60; ++i) {
        const double loss = step(trainer).loss;
        if (i < 5) first += loss / 5;
        if (i >= 45) last += loss / 15;
    }
    // The head starts at zero, so the first loss is the noise's own variance.
    EXPECT_NEAR(first, 1, 0.15);
    EXPECT_LT(last, 0.35);
}

TEST(Training, SameBitsForAnyNumberOfThreads) {
    std::vector<float> expected, expected_samples;
    for (const int count : {1, 2, 4}) {
        const Threads use(count);
        Trainer trainer(tiny_config(), blobs());
        for (int i = 0; i < 5; ++i) trainer.step();
        const auto weights = weights_of(trainer), samples = samples_of(trainer);
        if (expected.empty()) {
            expected = weights;
            expected_samples = samples;
        }
        EXPECT_EQ(weights, expected) << count << " threads";
        EXPECT_EQ(samples, expected_samples) << count << " threads";
    }
}

TEST(Training, LossByTimestepAddsUpToTheLoss) {
    const LossByTimestep quarters{.loss = {12, 37, 62, 87}, .samples = {2, 2, 2, 0}};
    EXPECT_EQ(quarters.means()[2], 31);
    EXPECT_FALSE(quarters.means()[3].has_value());

    auto config = tiny_config();
    config.optimizer.grad_accum = 3;
    Trainer trainer(config, blobs());
    std::array<std::int64_t, 4> samples{};
    for (int i = 0; i < 5; ++i) {
        const MetricsWindow before = trainer.window();
        trainer.step();
        const MetricsWindow after = trainer.window();
        EXPECT_EQ(after.steps, i + 1);
        double sum = 0;
        for (std::size_t q = 0; q < 4; ++q) {
            sum += after.by_timestep.loss[q] - before.by_timestep.loss[q];
            samples[q] += after.by_timestep.samples[q] - before.by_timestep.samples[q];
        }
        const double loss = after.loss - before.loss;
        EXPECT_NEAR(sum / 12, loss, 1e-6 * loss);
    }
    EXPECT_EQ(trainer.window().by_timestep.samples, samples);
    EXPECT_EQ(samples[0] + samples[1] + samples[2] + samples[3], 5 * 12);
    for (const auto count : samples) EXPECT_GT(count, 4);  // 15 expected
}

class Checkpoints : public ::testing::Test {
  protected:
    Checkpoints() { write_pipeline(run_.root(), tiny_config().unet(8, 6, 1), tiny_config().scheduler()); }

    const testing::TemporaryFolder folder_;
    const diffusion::Run run_{folder_.path() / "run"};
};

TEST_F(Checkpoints, ResumeIsBitwise) {
    Trainer straight(tiny_config(), blobs());
    std::vector<double> losses;
    for (int i = 0; i < 12; ++i) losses.push_back(step(straight).loss);

    {
        Trainer first(tiny_config(), blobs());
        for (int i = 0; i < 7; ++i) EXPECT_EQ(step(first).loss, losses[static_cast<std::size_t>(i)]);
        samples_of(first);  // looking at samples changes nothing
        first.save(run_);
    }
    Trainer second(tiny_config(), blobs());
    second.load(*run_.latest_checkpoint());
    EXPECT_EQ(second.steps_done(), 7);
    for (std::size_t i = 7; i < 12; ++i) EXPECT_EQ(step(second).loss, losses[i]) << "step " << i;
    EXPECT_EQ(weights_of(second), weights_of(straight));
    EXPECT_EQ(samples_of(second), samples_of(straight));
}

TEST_F(Checkpoints, OnlyTheLatestStays) {
    Trainer trainer(tiny_config(), blobs());
    for (int i = 0; i < 3; ++i) {
        trainer.step();
        trainer.save(run_);
    }
    EXPECT_EQ(run_.latest_checkpoint()->filename(), "step-00000003");
    EXPECT_EQ(entries_in(run_.trainer()), 1);
    // A folder that a crash left unfinished is no checkpoint.
    std::filesystem::create_directory(run_.trainer() / ".step-00000009.tmp");
    EXPECT_EQ(run_.latest_checkpoint()->filename(), "step-00000003");
}

TEST_F(Checkpoints, AFullDiskLeavesTheLastOne) {
    Trainer trainer(tiny_config(), blobs());
    trainer.step();
    trainer.save(run_);
    const auto weights = weights_of(trainer);
    trainer.step();

    // With a limit on the size of files a write fails in its middle, as on a full disk.
    rlimit before = {};
    getrlimit(RLIMIT_FSIZE, &before);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    for (const rlim_t bytes : {100, 5000}) {
        rlimit limit = before;
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
        std::string message;
        try {
            trainer.save(run_);
        } catch (const Error& error) {
            message = error.what();
        }
        setrlimit(RLIMIT_FSIZE, &before);
        EXPECT_NE(message.find("cannot be written"), std::string::npos) << message;
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        EXPECT_EQ(entries_in(run_.trainer()), 1);
    }
    std::signal(SIGXFSZ, handler);

    Trainer resumed(tiny_config(), blobs());
    resumed.load(*run_.latest_checkpoint());
    EXPECT_EQ(weights_of(resumed), weights);
    EXPECT_NO_THROW(load_pipeline(run_.root()));
    trainer.save(run_);  // and goes on once there is room
    EXPECT_EQ(run_.latest_checkpoint()->filename(), "step-00000002");
}

TEST_F(Checkpoints, HaveOnlyFiniteValues) {
    // Weights that grow by a factor of 100 a step overflow in a step whose gradients are finite.
    TrainConfig config = tiny_config();
    config.optimizer.lr = 10;
    config.optimizer.weight_decay = 10;
    Trainer trainer(config, blobs());
    const auto train = [&] {
        for (int i = 0; i < 100; ++i) {
            trainer.step();
            trainer.save(run_);
        }
    };
    EXPECT_THROW(train(), Diverged);
    ASSERT_EQ(entries_in(run_.trainer()), 1);
    Trainer again(config, blobs());
    again.load(*run_.latest_checkpoint());
    for (const float weight : weights_of(again)) ASSERT_TRUE(std::isfinite(weight));
    // One infinite weight is enough.
    Trainer good(tiny_config(), blobs());
    good.step();
    good.model().named_parameters().front().tensor.data<float>()[3] = std::numeric_limits<float>::infinity();
    testing::expect_error([&] { good.save(run_); }, {"weights are not finite after step 1"});
    EXPECT_EQ(entries_in(run_.trainer()), 1);
}

TEST_F(Checkpoints, OtherFoldersAreNotRemoved) {
    Trainer trainer(tiny_config(), blobs());
    trainer.step();
    trainer.save(run_);
    std::filesystem::create_directory(run_.trainer() / "my-backup");
    std::filesystem::create_directory(run_.trainer() / ".step-00000002.tmp");
    trainer.step();
    trainer.save(run_);
    trainer.save(run_);  // the second time the pipeline's weights are the same file already
    EXPECT_TRUE(std::filesystem::exists(run_.trainer() / "my-backup"));
    EXPECT_EQ(entries_in(run_.trainer()), 2);
    EXPECT_EQ(entries_in(run_.root() / "unet"), 2);
    // The latest is found by number, not by name.
    std::filesystem::create_directory(run_.checkpoint(99'999'999));
    std::filesystem::create_directory(run_.checkpoint(100'000'000));
    EXPECT_EQ(run_.latest_checkpoint()->filename(), "step-100000000");
}

TEST(Training, AccumulationEqualsALargeBatch) {
    TrainConfig large = tiny_config(), parts = tiny_config();
    large.optimizer.batch = 8;
    parts.optimizer.batch = 2;
    parts.optimizer.grad_accum = 4;
    Trainer a(large, blobs()), b(parts, blobs());
    for (int i = 0; i < 3; ++i) {
        const auto x = step(a), y = step(b);
        EXPECT_NEAR(x.loss, y.loss, 1e-5 * x.loss);
        EXPECT_NEAR(x.grad_norm, y.grad_norm, 1e-4 * x.grad_norm);
    }
}

TEST(Training, TheSecondStepTakesNoMemoryFromTheSystem) {
    Trainer trainer(tiny_config(), blobs());
    trainer.step();
    const auto slabs = allocator_of(Device::cpu())->stats().slabs;
    for (int i = 0; i < 5; ++i) trainer.step();
    EXPECT_EQ(allocator_of(Device::cpu())->stats().slabs, slabs);
}

TEST(Training, AdamsDecaysTakeEffect) {
    const auto after_three_steps = [](double beta1, double beta2) {
        TrainConfig config = tiny_config();
        config.optimizer.adam_beta1 = beta1;
        config.optimizer.adam_beta2 = beta2;
        Trainer trainer(config, blobs());
        for (int i = 0; i < 3; ++i) trainer.step();
        return weights_of(trainer);
    };
    const auto usual = after_three_steps(0.9, 0.999);
    EXPECT_NE(after_three_steps(0.95, 0.999), usual);
    EXPECT_NE(after_three_steps(0.9, 0.99), usual);
}

TEST(Training, ThePlannedLengthIsValid) {
    // A tiny network and a time limit of years: the run must accept the number of steps that it then keeps.
    Trainer trainer(tiny_config(), blobs());
    trainer.set_total_steps(600'000'000'000);
    TrainConfig config = tiny_config();
    config.run.steps = trainer.total_steps();
    EXPECT_NO_THROW(config.validate());
    EXPECT_GT(config.run.steps, 100'000'000);
}

TEST(Training, ADifferentSeedIsADifferentTraining) {
    TrainConfig other = tiny_config();
    other.run.seed = 12;
    Trainer a(tiny_config(), blobs()), b(other, blobs());
    EXPECT_NE(weights_of(a), weights_of(b));
    EXPECT_NE(step(a).loss, step(b).loss);
}

class Sampling : public ::testing::Test {
  protected:
    Sampling() : trainer_(tiny_config(), blobs()) {
        for (int i = 0; i < 3; ++i) trainer_.step();
    }
    std::vector<float> draw(std::int64_t first, std::int64_t count, std::int64_t batch,
                            std::uint64_t seed = 4) {
        const auto timesteps = spaced_timesteps(50, 9);
        const ReverseProcess process(trainer_.schedule(), timesteps);
        return sample(trainer_.model(), process,
                      {.count = count, .first = first, .batch = batch, .seed = seed})
            .to_vector<float>();
    }
    Trainer trainer_;
};

TEST_F(Sampling, AnImageDependsOnItsSeedAndIndexAlone) {
    const auto all = draw(0, 7, 7);
    EXPECT_EQ(draw(0, 7, 3), all);
    EXPECT_EQ(draw(0, 7, 1), all);
    const auto fifth = draw(5, 1, 4);
    EXPECT_TRUE(std::equal(fifth.begin(), fifth.end(), all.begin() + 5 * 48));
    EXPECT_NE(draw(0, 7, 7, 5), all);
}

TEST_F(Sampling, LeavesTheModelAsItWas) {
    const auto before = weights_of(trainer_);
    trainer_.model().train();
    samples_of(trainer_);
    EXPECT_TRUE(trainer_.model().training());
    EXPECT_EQ(weights_of(trainer_), before);
}

TEST_F(Sampling, CanBeInterrupted) {
    int calls = 0;
    EXPECT_THROW(trainer_.sample(2, 10, [&] { return ++calls < 4; }), Error);
    EXPECT_EQ(calls, 4);
    EXPECT_EQ(samples_of(trainer_), samples_of(trainer_));  // and the weights were put back
}

TEST_F(Sampling, ASavedPipelineOpensAgain) {
    const testing::TemporaryFolder folder;
    const diffusion::Run run(folder.path() / "run");
    write_pipeline(run.root(), trainer_.unet_config(), tiny_config().scheduler());
    trainer_.save(run);
    const auto raw = load_pipeline(run.root(), {.set = WeightSet::raw});
    const auto x = Tensor::full({1, 8, 6, 1}, 0.3);
    const auto t = Tensor::full({1}, 7, DType::int64);
    trainer_.model().eval();
    EXPECT_EQ(raw.model->forward(x, t).to_vector<float>(), trainer_.model().forward(x, t).to_vector<float>());
    const auto ema = load_pipeline(run.root());
    EXPECT_NE(ema.model->forward(x, t).to_vector<float>(), raw.model->forward(x, t).to_vector<float>());
    EXPECT_EQ(ema.scheduler.schedule.timesteps, 50);

    // The flat form that some repositories have.
    const auto flat = folder.path() / "flat";
    std::filesystem::create_directory(flat);
    for (const auto& file :
         {"unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"})
        std::filesystem::copy(run.root() / file, flat / std::filesystem::path(file).filename());
    EXPECT_EQ(load_pipeline(flat).model->forward(x, t).to_vector<float>(),
              ema.model->forward(x, t).to_vector<float>());
    EXPECT_THROW(load_pipeline(flat, {.set = WeightSet::raw}), Error);
    EXPECT_THROW(load_pipeline(folder.path()), Error);
}

}  // namespace
}  // namespace ito::diffusion
