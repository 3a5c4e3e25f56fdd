// ito bench: how long a training step and a sampling step take, and how much memory they need.

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "apps/commands.h"
#include "apps/device_peak.h"
#include "apps/kernel_bench/options.h"
#include "apps/layer_table.h"
#include "apps/terminal.h"
#include "apps/train_options.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/error.h"
#include "core/memory/allocator.h"
#include "diffusion/solvers/sampler.h"
#include "diffusion/training/trainer.h"
#include "nn/init.h"

namespace ito::apps {
namespace {

using namespace diffusion;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

/// The first steps of a process fill the allocator, the plan cache and the packed weights; on CUDA they also choose the
/// fastest kernels and record the graph.
std::int64_t warm_up_steps(const Device& device) {
    return device.is_cuda() ? 6 : 2;
}
/// On CUDA so many steps are timed together, since waiting for the device after each would count too.
constexpr std::int64_t steps_together = 10;

/// A network that is measured, and the images it is for.
struct Size {
    const char* name;
    std::int64_t side, channels, base_channels;
    std::vector<std::int64_t> channel_mults;
    std::int64_t attention_resolution, batch;
};

const Size& find_size(const std::string& name) {
    static const std::vector<Size> sizes{
        {"mnist", 28, 1, 32, {1, 2, 2}, 14, 64},
        {"cifar10", 32, 3, 128, {1, 2, 2, 2}, 16, 8},
    };
    for (const Size& size : sizes)
        if (name == size.name) return size;
    fail("--size {}: expected mnist or cifar10", name);
}

/// Random pixels: the time of a step does not depend on what the images show.
Dataset random_images(const Size& size, std::int64_t count) {
    Dataset data{.count = count,
                 .height = size.side,
                 .width = size.side,
                 .channels = size.channels,
                 .images = {},
                 .labels = {},
                 .label_names = {}};
    std::mt19937 engine(1);
    data.images.resize(static_cast<std::size_t>(count * data.image_size()));
    for (auto& pixel : data.images) pixel = static_cast<std::uint8_t>(engine());
    return data;
}

/// Times consecutive steps after the warm-up steps.
class Stopwatch {
  public:
    Stopwatch(const Device& device, std::int64_t repeats)
        : device_(device), repeats_(repeats), together_(device.is_cuda() ? steps_together : 1) {}

    std::int64_t steps() const { return warm_up_steps(device_) + repeats_ * together_; }
    void start() { last_ = Clock::now(); }
    void lap() {
        const std::int64_t timed = ++laps_ - warm_up_steps(device_);
        if (timed < 0 || timed % together_ != 0) return;
        if (device_.is_cuda()) cuda::synchronize(device_.index);
        const auto now = Clock::now();
        if (timed > 0)
            milliseconds_.push_back(std::chrono::duration<double, std::milli>(now - last_).count() /
                                    static_cast<double>(together_));
        last_ = now;
    }
    double best() const { return *std::min_element(milliseconds_.begin(), milliseconds_.end()); }
    double median() const {
        auto sorted = milliseconds_;
        std::sort(sorted.begin(), sorted.end());
        const std::size_t half = sorted.size() / 2;
        return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    }

  private:
    Device device_;
    std::int64_t repeats_, together_;
    Clock::time_point last_;
    std::int64_t laps_ = 0;
    std::vector<double> milliseconds_;
};

struct BenchCommand {
    std::string size = "mnist", mode = "both";
    std::int64_t batch = 0, repeats = 10;
    bool direct = false, json = false;
    Execution execution;

    int operator()() const;

  private:
    Stopwatch train(const TrainConfig& config, const Size& measured, const Computation& computation) const;
    Stopwatch sample(const TrainConfig& config, const Size& measured, const Computation& computation) const;
};

TrainConfig config_of(const Size& size, std::int64_t batch) {
    TrainConfig config;
    config.data.data = "random";
    config.run.steps = 1'000'000;
    config.optimizer.batch = batch;
    config.model.base_channels = size.base_channels;
    config.model.channel_mults = size.channel_mults;
    config.model.layers_per_block = 2;
    config.model.attention_resolutions = {size.attention_resolution};
    config.model.norm_groups = 32;
    config.model.dropout = 0.1;
    config.optimizer.lr = 2e-4;
    return config;
}

/// Whole steps as `ito train` makes them: noising, forward, loss, backward, clipping, Adam and EMA.
Stopwatch BenchCommand::train(const TrainConfig& config, const Size& measured,
                              const Computation& computation) const {
    Trainer trainer(config, random_images(measured, std::max<std::int64_t>(1024, config.optimizer.batch)),
                    {.computation = computation, .graph = !execution.no_graph});
    Stopwatch stopwatch(computation.device, repeats);
    stopwatch.start();
    for (std::int64_t i = 0; i < stopwatch.steps(); ++i) {
        trainer.step();
        stopwatch.lap();
    }
    return stopwatch;
}

/// Consecutive steps of one sampling: forward without gradients and the reverse step.
Stopwatch BenchCommand::sample(const TrainConfig& config, const Size& measured,
                               const Computation& computation) const {
    nn::UNet model(config.unet(measured.side, measured.side, measured.channels));
    nn::initialize(model, config.run.seed);
    model.to(computation.device);
    Stopwatch stopwatch(computation.device, repeats);
    const ReverseProcess process = reverse_process(config.scheduler(), stopwatch.steps());
    const auto on_step = [&](std::int64_t, std::int64_t, const Tensor&, const Tensor&) {
        stopwatch.lap();
        return true;
    };
    stopwatch.start();
    diffusion::sample(model, process,
                      {.count = config.optimizer.batch,
                       .batch = config.optimizer.batch,
                       .compute = computation.type(),
                       .graph = !execution.no_graph,
                       .on_step = on_step});
    return stopwatch;
}

/// FLOPs of the network's matrix products, counted in a step of one image on the CPU.
ops::Flops flops_per_image(TrainConfig config, const Size& measured) {
    config.optimizer.batch = 1;
    Trainer trainer(config, random_images(measured, 1));
    LayerTable table(trainer.model(), 1);
    const trace::Listen listen(table);
    trainer.step();
    return table.flops();
}

double peak_resident_mib() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024;  // Linux counts KiB
}

int BenchCommand::operator()() const {
    const Size& measured = find_size(size);
    require(mode == "train" || mode == "sample" || mode == "both",
            "--mode {}: expected train, sample or both", mode);
    require(batch >= 0 && batch <= 65536, "--batch {}: expected 0 (the size's) to 65536", batch);
    const Computation computation = execution.apply();
    const std::int64_t most = computation.device.is_cuda() ? 90 : 900;
    require(repeats >= 1 && repeats <= most, "--repeats {}: expected 1 to {}", repeats, most);
    set_direct_convolution(direct);

    const TrainConfig config = config_of(measured, batch ? batch : measured.batch);
    const auto parameters =
        nn::UNet(config.unet(measured.side, measured.side, measured.channels)).parameter_count();
    const auto allocator = allocator_of(computation.device);
    const bool on_gpu = computation.device.is_cuda();
    const ops::Flops work = flops_per_image(config, measured);
    // Not on the CPU, where Winograd's convolutions need fewer operations than are counted here.
    const double peak = on_gpu ? product_flops_per_second(computation) : 0;
    const int digits = on_gpu ? 2 : 1;  // of milliseconds
    Json report{{"size", measured.name},
                {"parameters", parameters},
                {"batch", config.optimizer.batch},
                {"device", execution.text()},
                {"precision", name_of(computation.precision)},
                {"threads", threads()},
                {"direct_convolution", direct},
                {"graph", on_gpu && !execution.no_graph},
                {"repeats", repeats}};
    if (on_gpu) report["product_flops_per_second"] = peak;
    if (!json) {
        const std::string how = on_gpu ? execution.no_graph ? "launched one by one" : "as a CUDA graph"
                                       : fmt::format("{}, {} convolution", counted(threads(), "thread"),
                                                     direct ? "direct" : "Winograd");
        fmt::print("{}: {}x{}x{}, {:.2f} M parameters, batch {}, {}, {}\n", measured.name, measured.side,
                   measured.side, measured.channels, static_cast<double>(parameters) / 1e6,
                   config.optimizer.batch, execution.text(), how);
    }
    for (const std::string part : {"train", "sample"}) {
        if (mode != "both" && mode != part) continue;
        allocator->reset_peak();
        const Stopwatch steps =
            part == "train" ? train(config, measured, computation) : sample(config, measured, computation);
        const double images_per_second = static_cast<double>(config.optimizer.batch) * 1000 / steps.best();
        const double peak_mib = static_cast<double>(allocator->stats().peak_in_use) / (1 << 20);
        const double flops = (part == "train" ? work.forward + work.backward : work.forward) *
                             static_cast<double>(config.optimizer.batch) * 1000 / steps.best();
        report[part] = {{"best_ms", steps.best()},
                        {"median_ms", steps.median()},
                        {"images_per_second", images_per_second},
                        {"flops_per_second", flops},
                        {"allocator_peak_mib", peak_mib}};
        if (on_gpu) report[part]["share_of_peak"] = flops / peak;
        if (!json) {
            const std::string share =
                on_gpu ? fmt::format(" ({:.0f} % of a matrix product's)", 100 * flops / peak) : "";
            fmt::print("{:6} step: best {:.{}f} ms, median {:.{}f} ms, {:.1f} images/s, tensors {:.0f} MiB, ",
                       part, steps.best(), digits, steps.median(), digits, images_per_second, peak_mib);
            fmt::print("{:.3g} TFLOP/s{}\n", flops / 1e12, share);
        }
    }
    report["peak_rss_mib"] = peak_resident_mib();
    if (json) {
        fmt::print("{}\n", report.dump(2));
    } else {
        fmt::print("peak memory of the process: {:.0f} MiB\n", peak_resident_mib());
    }
    return 0;
}

}  // namespace

Action add_bench(CLI::App& app) {
    auto command = std::make_shared<BenchCommand>();
    auto& c = *command;
    app.add_option("--size", c.size, "mnist (28x28x1, 1.6 M parameters) or cifar10 (32x32x3, 35.7 M)")
        ->capture_default_str();
    app.add_option("--mode", c.mode, "train, sample or both")->capture_default_str();
    app.add_option("--batch", c.batch, "Images of a step, 0 for 64 (mnist) or 8 (cifar10)")
        ->capture_default_str();
    app.add_option("--repeats", c.repeats, "Measurements: of a step on the CPU, of ten together on CUDA")
        ->capture_default_str();
    app.add_flag("--direct", c.direct, "Convolutions without Winograd: slower, smaller rounding errors");
    app.add_flag("--json", c.json, "Print one JSON object");
    c.execution.add_options(app);
    add_train_option(app, "--weight-gradients", c.execution.weight_gradients);

    CLI::App* const kernels =
        app.add_subcommand("kernels", "Time the kernels of a device, on CUDA each in all its variants");
    for (CLI::Option* option : app.get_options())
        if (option != app.get_help_ptr()) kernels->excludes(option);
    auto options = std::make_shared<kernel_bench::Options>();
    kernels->add_option("--filter", options->filter,
                        "Only names that contain this: float32, bfloat16, mnist, cifar10, silu");
    add_train_option(*kernels, "--device", options->device);
    add_train_option(*kernels, "--threads", options->threads);
    kernels->add_option("--repeats", options->repeats, "Measurements, each of enough launches for its clock")
        ->capture_default_str();
    kernels->add_flag("--json", options->json, "Print one JSON object");
    return [command, kernels, options] {
        return kernels->parsed() ? kernel_bench::run(*options) : (*command)();
    };
}

}  // namespace ito::apps
