// Whole trainings on CUDA: against the CPU, with and without a graph, saved, resumed and moved between devices, and
// sampled from.

#include "diffusion/training/trainer.h"

#include <cmath>
#include <limits>

#include "core/cuda/cuda.h"
#include "core/memory/allocator.h"
#include "diffusion/pipeline/pipeline.h"
#include "diffusion/solvers/sampler.h"
#include "tests/support/cuda_machine.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_training.h"

namespace ito::diffusion {
namespace {

using testing::expect_error;
using testing::weights_of;

class CudaTrainer : public testing::CudaTest {};

TrainConfig tiny_config() {
    TrainConfig config = testing::tiny_config();
    config.optimizer.batch = 2;
    config.optimizer.grad_accum = 2;
    config.optimizer.lr = 2e-3;
    config.optimizer.lr_schedule = "cosine";
    config.optimizer.warmup = 2;
    config.run.keep = 100;
    return config;
}

/// Smooth blobs, not square.
Dataset blobs() {
    Dataset data;
    data.count = 7, data.height = 8, data.width = 6, data.channels = 1;
    for (std::int64_t n = 0; n < data.count; ++n)
        for (std::int64_t y = 0; y < data.height; ++y)
            for (std::int64_t x = 0; x < data.width; ++x) {
                const double d = std::hypot(static_cast<double>(y - n), static_cast<double>(x - n / 2));
                data.images.push_back(static_cast<std::uint8_t>(255 * std::exp(-d * d / 4)));
            }
    return data;
}

TrainerOptions on_cuda(Precision precision = Precision::float32, bool graph = true) {
    return {.computation = {Device::cuda(), precision}, .graph = graph};
}

struct Result {
    std::vector<double> losses, norms;
    std::vector<float> weights, samples;
};

Result train(Trainer& trainer, int steps, bool sampled = true) {
    Result result;
    for (int i = 0; i < steps; ++i) {
        trainer.step();
        const MetricsWindow window = trainer.take_window();
        result.losses.push_back(window.loss);
        result.norms.push_back(window.grad_norm);
    }
    result.weights = weights_of(trainer);
    if (sampled) result.samples = trainer.sample(2, 4).to_vector<float>();
    return result;
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        size += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(difference / size);
}

// Losses are means over few values, whose rounding errors do not cancel: float32 to 1e-4, bfloat16 (8 bits) to 2 %.
TEST_F(CudaTrainer, FollowsTheCpu) {
    Trainer reference(tiny_config(), blobs());
    const Result expected = train(reference, 5);
    for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
        SCOPED_TRACE(name_of(precision));
        const double tolerance = precision == Precision::float32 ? 1e-4 : 2e-2;
        Trainer trainer(tiny_config(), blobs(), on_cuda(precision));
        const Result got = train(trainer, 5);
        for (std::size_t i = 0; i < 5; ++i) {
            EXPECT_NEAR(got.losses[i], expected.losses[i], tolerance * expected.losses[i]) << "step " << i;
            EXPECT_NEAR(got.norms[i], expected.norms[i], 5 * tolerance * expected.norms[i]) << "step " << i;
        }
        EXPECT_LE(relative_error(got.weights, expected.weights), tolerance);
        EXPECT_LE(relative_error(got.samples, expected.samples), 10 * tolerance);
    }
}

TEST_F(CudaTrainer, AGraphGivesTheSameBits) {
    for (const Precision precision : {Precision::float32, Precision::bfloat16}) {
        SCOPED_TRACE(name_of(precision));
        Trainer direct(tiny_config(), blobs(), on_cuda(precision, false));
        Trainer recorded(tiny_config(), blobs(), on_cuda(precision, true));
        const Result a = train(direct, 5), b = train(recorded, 5);
        EXPECT_EQ(direct.graph_nodes(), 0u);
        EXPECT_GT(recorded.graph_nodes(), 100u);
        EXPECT_EQ(a.losses, b.losses);
        EXPECT_EQ(a.norms, b.norms);
        EXPECT_EQ(a.weights, b.weights);
        EXPECT_EQ(a.samples, b.samples);
    }
}

TEST_F(CudaTrainer, ImagesMayStayOnTheHost) {
    TrainerOptions host = on_cuda();
    host.images = ImagePlace::host;
    Trainer a(tiny_config(), blobs(), on_cuda()), b(tiny_config(), blobs(), host);
    EXPECT_TRUE(a.images().on_device());
    EXPECT_FALSE(b.images().on_device());
    const Result x = train(a, 5, false), y = train(b, 5, false);  // 4 images a step of 7: across two epochs
    EXPECT_EQ(x.losses, y.losses);
    EXPECT_EQ(x.weights, y.weights);
    EXPECT_EQ(a.images().copies({5, 1}).images, b.images().copies({5, 1}).images);
}

TEST_F(CudaTrainer, ResumesBitForBitAndOnTheOtherDevice) {
    const testing::TemporaryFolder folder;
    const diffusion::Run run(folder.path() / "run");
    const TrainConfig config = tiny_config();
    write_pipeline(run.root(), config.unet(8, 6, 1), config.scheduler());
    Trainer straight(config, blobs(), on_cuda(Precision::bfloat16));
    train(straight, 3, false);
    straight.save(run);
    const auto checkpoint = *run.latest_checkpoint();
    const Result expected = train(straight, 3);

    Trainer resumed(config, blobs(), on_cuda(Precision::bfloat16));
    resumed.load(checkpoint);
    const Result got = train(resumed, 3);
    EXPECT_EQ(got.losses, expected.losses);
    EXPECT_EQ(got.weights, expected.weights);
    EXPECT_EQ(got.samples, expected.samples);

    // A checkpoint is float32 whatever wrote it.
    Trainer on_cpu(config, blobs());
    on_cpu.load(checkpoint);
    const Result moved = train(on_cpu, 3);
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_NEAR(moved.losses[i], expected.losses[i], 2e-2 * expected.losses[i]);
    on_cpu.save(run);
    Trainer back(config, blobs(), on_cuda());
    back.load(*run.latest_checkpoint());
    EXPECT_EQ(weights_of(back), moved.weights);
    back.step();
    EXPECT_EQ(back.steps_done(), 7);
}

// Between two logged lines the driver is asked for nothing and the host waits for nothing.
TEST_F(CudaTrainer, NeitherAllocatesNorWaitsBetweenLines) {
    for (const bool graph : {false, true}) {
        Trainer trainer(tiny_config(), blobs(), on_cuda(Precision::bfloat16, graph));
        for (int i = 0; i < 5; ++i) trainer.step();
        trainer.log_window();
        while (!trainer.logged_window(false)) {
        }
        const cuda::Counts before = cuda::counts();
        for (int i = 0; i < 6; ++i) trainer.step();
        trainer.log_window();
        std::optional<LoggedWindow> line;
        while (!line) line = trainer.logged_window(false);
        EXPECT_EQ(cuda::counts().driver_allocations, before.driver_allocations);
        EXPECT_EQ(cuda::counts().synchronizations, before.synchronizations);
        EXPECT_EQ(line->step, 11);
        EXPECT_EQ(line->window.steps, 6);
        EXPECT_GT(line->window.loss, 0);
    }
}

// A step that is not finite leaves the weights as they were, and the next line names it.
TEST_F(CudaTrainer, DivergenceIsNamedWhenItsLineIsRead) {
    const testing::TemporaryFolder folder;
    const diffusion::Run run(folder.path() / "run");
    Trainer trainer(tiny_config(), blobs(), on_cuda());
    write_pipeline(run.root(), trainer.unet_config(), tiny_config().scheduler());
    for (int i = 0; i < 4; ++i) trainer.step();
    trainer.save(run);
    Tensor weight = trainer.model().named_parameters()[3].tensor;
    weight.detach().fill_(std::numeric_limits<double>::quiet_NaN());
    const auto other = trainer.model().named_parameters()[0].tensor.to_vector<float>();
    for (int i = 0; i < 3; ++i) trainer.step();
    EXPECT_EQ(trainer.model().named_parameters()[0].tensor.to_vector<float>(), other);
    trainer.log_window();
    expect_error([&] { trainer.logged_window(true); }, {"training diverged at step 5", "nan"});
    expect_error([&] { trainer.save(run); }, {"not finite after step 7"});
    EXPECT_EQ(run.latest_checkpoint()->filename(), "step-00000004");
}

TEST_F(CudaTrainer, SamplingWithAndWithoutAGraph) {
    Trainer trainer(tiny_config(), blobs(), on_cuda());
    trainer.step();
    const NoiseSchedule& schedule = trainer.schedule();
    const ReverseProcess process(schedule, spaced_timesteps(schedule.timesteps(), 6));
    const auto draw = [&](std::int64_t first, std::int64_t count, std::int64_t batch, bool graph) {
        return sample(trainer.model(), process,
                      {.count = count, .first = first, .batch = batch, .seed = 4, .graph = graph});
    };
    const auto expected = draw(0, 5, 5, false).to_vector<float>();
    EXPECT_EQ(draw(0, 5, 5, true).to_vector<float>(), expected);
    // Batches of other sizes round differently; an image is still its own.
    EXPECT_LE(relative_error(draw(0, 5, 2, true).to_vector<float>(), expected), 1e-4);
    const std::vector<float> last(expected.end() - 48, expected.end());
    EXPECT_LE(relative_error(draw(4, 1, 8, true).to_vector<float>(), last), 1e-4);
}

}  // namespace
}  // namespace ito::diffusion
