// ito train and ito sample with --device cuda, on the virtual GPU: as on the CPU, with and without a graph, killed, resumed,
// moved between devices, and with every kind of CUDA call failing once.

#include <cmath>
#include <cstdlib>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

/// An environment variable for the commands that run meanwhile.
class Environment {
  public:
    Environment(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
    ~Environment() { unsetenv(name_); }

  private:
    const char* name_;
};

class TrainOnCuda : public ::testing::Test {
  protected:
    void SetUp() override { write_pngs(folder_, "data", 12, 8, 8); }

    std::string at(const std::string& name) const { return (folder_ / name).string(); }
    /// Variants of kernels by their first guess: what the virtual GPU times says nothing.
    Arguments train(const std::string& out, const Arguments& more = {}) const {
        return train_tiny(at("data"), folder_ / out) +
               Arguments{"--batch",  "2",    "--timesteps",  "4", "--sample-every", "0",
                         "--device", "cuda", "--no-autotune"} +
               more;
    }
    Arguments resume(const std::string& run, const Arguments& more = {}) const {
        return Arguments{"train", "--resume", at(run), "--no-autotune"} + more;
    }
    std::map<std::string, std::string> trained(const std::string& run) const {
        return files_below(folder_ / run / "trainer");
    }

    TemporaryFolder folder_;
};

/// float32 to 1e-4; bfloat16, whose products have 8 bits, to 2 %.
void expect_like(const std::vector<nlohmann::json>& got, const std::vector<nlohmann::json>& expected,
                 double tolerance) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].at("step"), expected[i].at("step"));
        for (const char* value : {"loss", "grad_norm"}) {
            const double a = got[i].at(value), b = expected[i].at(value);
            EXPECT_NEAR(a, b, tolerance * b * (value[0] == 'g' ? 5 : 1)) << value << " of line " << i;
        }
    }
}

TEST_F(TrainOnCuda, LossesAreThoseOfTheCpu) {
    const Arguments options{"--steps", "20",        "--data", "fashion-mnist", "--image-size", "8",
                            "--flip",  "--dropout", "0.1"};
    const auto on_cpu = ito(train("cpu", options + Arguments{"--device", "cpu"}));
    if (on_cpu.err.find("dataset-fashion-mnist") != std::string::npos) GTEST_SKIP() << on_cpu.err;
    expect_success(on_cpu);
    for (const std::string precision : {"float32", "bfloat16"}) {
        const auto result = ito(train(precision, options + Arguments{"--precision", precision}));
        expect_success(result);
        EXPECT_NE(result.out.find("cuda:0, " + precision), std::string::npos) << result.out;
        expect_like(metrics_of(folder_ / precision), metrics_of(folder_ / "cpu"),
                    precision == "float32" ? 1e-4 : 2e-2);
    }
}

TEST_F(TrainOnCuda, NeitherAGraphNorAKillChangesABit) {
    const Arguments options{"--steps", "9", "--save-every", "4", "--grad-accum", "2", "--flip"};
    expect_success(ito(train("graph", options)));
    expect_success(ito(train("direct", options + Arguments{"--no-graph"})));
    const auto killed = ito(train("killed", options), {.signal = SIGKILL, .signal_at = "step 4: saved"});
    ASSERT_EQ(killed.status, 128 + SIGKILL) << killed.out << killed.err;
    expect_success(ito(resume("killed")));
    const auto expected = trained("graph");
    EXPECT_TRUE(expected.contains("step-00000009/kernels.json"));
    for (const char* other : {"direct", "killed"}) {
        const auto got = trained(other);
        EXPECT_EQ(got.size(), expected.size());
        for (const auto& [name, content] : expected)
            EXPECT_TRUE(got.contains(name) && got.at(name) == content) << other << ": " << name << " differs";
        EXPECT_EQ(metrics_of(folder_ / other), metrics_of(folder_ / "graph"));
    }
}

TEST_F(TrainOnCuda, MovesToTheCpuAndBack) {
    const Arguments cuda{"--device", "cuda", "--precision", "float32"}, cpu{"--device", "cpu"};
    expect_success(ito(train("cpu", cpu + Arguments{"--steps", "12"})));
    expect_success(ito(train("moved", cuda + Arguments{"--steps", "4"})));
    // bfloat16 stays with the run only where it can be had.
    expect_success(ito(resume("moved", cpu + Arguments{"--precision", "auto", "--steps", "8"})));
    expect_success(ito(resume("moved", cuda + Arguments{"--steps", "12"})));
    const auto moved = metrics_of(folder_ / "moved");
    ASSERT_FALSE(moved.empty());
    expect_like({moved.back()}, {metrics_of(folder_ / "cpu").back()}, 1e-3);
}

TEST_F(TrainOnCuda, SamplesAsTheCpuDoes) {
    expect_success(ito(train("run", {"--steps", "3"})));
    const auto draw = [&](const std::string& name, const Arguments& more) {
        expect_success(ito(Arguments{"sample", at("run"), "--num", "3", "--batch", "2", "--sampling-steps",
                                     "4", "--upscale", "1", "--no-autotune", "--out", at(name)} +
                           more));
        const std::string file = TemporaryFolder::read(folder_ / name);
        return diffusion::decode_png(std::as_bytes(std::span(file)), name).pixels;
    };
    const auto expected = draw("cpu.png", {"--device", "cpu"});
    const auto exact = draw("graph.png", {"--device", "cuda", "--precision", "float32"});
    EXPECT_EQ(exact, draw("direct.png", {"--device", "cuda", "--precision", "float32", "--no-graph"}));
    const auto rounded = draw("bfloat16.png", {"--device", "cuda"});
    double worst = 0, mean = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        worst = std::max(worst, std::abs(static_cast<double>(exact[i]) - expected[i]));
        mean +=
            std::abs(static_cast<double>(rounded[i]) - expected[i]) / static_cast<double>(expected.size());
    }
    EXPECT_LE(worst, 1) << "of 255";
    EXPECT_LE(mean, 3) << "of 255";
}

// The run stands at a checkpoint. Whatever fails then, one line says so and the training goes on from there, or the call is
// made again and nothing is different.
TEST_F(TrainOnCuda, EveryCudaCallMayFailSlow) {
    expect_success(ito(train("start", {"--steps", "2", "--device", "cpu", "--precision", "auto"})));
    const auto before = trained("start");
    const auto go_on = [&](const std::string& name) {
        fs::copy(folder_ / "start", folder_ / name, fs::copy_options::recursive);
        return ito(resume(name, {"--device", "cuda", "--steps", "7", "--save-every", "1000"}));
    };
    expect_success(go_on("undisturbed"));
    int refused = 0;
    for (const std::string failure :
         {"cudaStreamCreateWithFlags:1:2", "cudaMalloc:1:2", "cudaMallocHost:1:2", "cudaMemcpyAsync:1:719",
          "cudaMemcpyAsync:60:719", "cudaLaunchKernel:1:719", "cudaLaunchKernel:400:700",
          "cudaEventCreateWithFlags:3:2", "cudaEventRecord:2:719", "cudaEventQuery:1:719",
          "cudaStreamSynchronize:1:719", "cudaStreamBeginCapture:1:901", "cudaStreamEndCapture:1:901",
          "cudaGraphInstantiate:1:2", "cudaGraphLaunch:1:719", "cudaGraphGetNodes:1:1",
          "cudaGetDeviceProperties:1:999"}) {
        SCOPED_TRACE(failure);
        const Environment fail("VGPU_FAIL", failure), quiet("VGPU_LEAKS", "0");
        const std::string name = failure.substr(0, failure.rfind(':'));
        const auto result = go_on(name);
        if (result.status == 0) {
            EXPECT_EQ(trained(name), trained("undisturbed"));
            continue;
        }
        ++refused;
        EXPECT_EQ(result.status, 1) << result.out << result.err;
        EXPECT_TRUE(result.err.starts_with("ito: ")) << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
        EXPECT_TRUE(trained(name) == before) << "the checkpoint is another";
    }
    EXPECT_GE(refused, 14);
}

// The allocator asks twice. One line says what to do, and the same command may run again.
TEST_F(TrainOnCuda, OutOfMemoryLeavesTheFolderFree) {
    {
        const Environment fail("VGPU_FAIL", "cudaMalloc:2:2,cudaMalloc:3:2"), quiet("VGPU_LEAKS", "0");
        const auto result = ito(train("run", {"--steps", "2"}));
        EXPECT_EQ(result.status, 1) << result.out;
        EXPECT_TRUE(result.err.starts_with("ito: out of memory on cuda:0")) << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    }
    EXPECT_FALSE(fs::exists(folder_ / "run/config.json"));
    expect_success(ito(train("run", {"--steps", "2"})));
}

TEST_F(TrainOnCuda, AutoTakesIt) {
    const auto result = ito(train("run", {"--device", "auto", "--steps", "1", "--dry-run"}));
    expect_success(result);
    EXPECT_NE(result.out.find("cuda:0, bfloat16 (NVIDIA H100"), std::string::npos) << result.out;
}

TEST_F(TrainOnCuda, RefusesWhatTheGpuCannotDo) {
    expect_refused(ito(train("run", {"--device", "cuda:3"})), {"cuda:3", "one CUDA device"});
    expect_refused(ito(train("run", {"--device", "cpu", "--precision", "tf32"})),
                   {"--precision tf32", "CPU"});
    EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace ito::apps
