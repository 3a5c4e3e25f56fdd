// ito inspect: the layers of a model, what a training step of it costs and needs, its graph, its weights.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "apps/commands.h"
#include "apps/graph_file.h"
#include "apps/layer_table.h"
#include "apps/output_file.h"
#include "apps/weight_table.h"
#include "core/choices.h"
#include "core/context.h"
#include "core/error.h"
#include "core/io/text_file.h"
#include "core/memory/allocator.h"
#include "diffusion/pipeline/pipeline.h"
#include "diffusion/training/trainer.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;
using namespace diffusion;
using Json = nlohmann::ordered_json;

/// A network and the training that it is for.
struct Subject {
    std::string name;
    nn::UNetConfig unet;
    TrainConfig train;
    std::vector<std::string> notes = {};  ///< on how the folder was read
};

/// Where the memory of a training step goes, without the data set, which lies there too.
struct StepMemory {
    std::size_t state = 0;   ///< parameters, gradients, two moments and the average
    std::size_t copy = 0;    ///< of the parameters, in the type that kernels read
    std::size_t images = 0;  ///< the batch as bytes
    std::size_t saved = 0;   ///< what the ops keep for backward
    std::size_t backward =
        0;  ///< saved tensors, gradients and scratch memory when backward has the most of them
    std::size_t measured = 0;  ///< the allocator's peak

    std::size_t predicted() const { return state + copy + images + backward; }
};

struct InspectCommand {
    std::string run, config, graph, variant;
    std::int64_t batch = 0;
    bool weights = false, raw = false, json = false, force = false, kernels = false;
    Execution execution;
    CLI::App* app = nullptr;

    int operator()() const;

  private:
    void check() const;
    Subject subject() const;
    int show_weights() const;
};

Subject subject_of_config(const std::string& file) {
    const TrainConfig train = read_train_config(file);
    if (!train.model.init_from.empty()) return {file, read_unet_config(train.model.init_from), train};
    // The sizes of these are known without their files: readers of a recipe may not have the data yet.
    Dataset data;
    data.height = data.width = train.data.image_size;
    data.channels = 1;
    if (is_dataset_name(train.data.data)) {
        const bool colour = train.data.data == "cifar10";
        if (train.data.image_size == 0) data.height = data.width = colour ? 32 : 28;
        data.channels = colour ? 3 : 1;
    } else {
        data = load_dataset(train.data.data, {.data_dir = train.data.data_dir,
                                              .image_size = train.data.image_size,
                                              .skip_broken = train.data.skip_broken});
    }
    return {file, train.unet(data.height, data.width, data.channels), train};
}

Subject subject_of_folder(const std::string& folder) {
    Subject subject{folder, {}, {}};
    subject.unet = read_unet_config(folder, &subject.notes);
    const Run run(folder);
    subject.train.optimizer.batch = 1;
    // The root of a folder that diffusers saved may hold a config.json of its own.
    if (fs::exists(run.config()) && fs::exists(run.root() / "unet"))
        subject.train = TrainConfig::from_json(read_json_text(run.config()), run.config().string());
    return subject;
}

Dataset blank_images(const nn::UNetConfig& unet, std::int64_t count) {
    Dataset data;
    data.count = count;
    data.height = unet.height;
    data.width = unet.width;
    data.channels = unet.in_channels;
    data.images.resize(static_cast<std::size_t>(count * data.image_size()), 128);
    return data;
}

void InspectCommand::check() const {
    require(run.empty() != config.empty(), "inspect: expected a run, or --config with a training's options");
    require(app->count("--batch") == 0 || (batch >= 1 && batch <= 65536), "--batch {}: expected 1 to 65536",
            batch);
    require(!weights || !run.empty(), "--weights: a configuration has no weights; give a run");
    require(!weights || graph.empty(), "--graph: goes with the layers; leave --weights out");
    require(weights || !raw, "--raw: is about --weights; add that");
    require(weights || variant.empty(), "--variant: is about --weights; add that");
}

Subject InspectCommand::subject() const {
    Subject subject = config.empty() ? subject_of_folder(run) : subject_of_config(config);
    if (batch > 0) {
        subject.train.optimizer.batch = batch;
        subject.train.optimizer.grad_accum = 1;
    }
    return subject;
}

int InspectCommand::show_weights() const {
    Network network;
    try {
        network = load_network(run, {.set = raw ? WeightSet::raw : WeightSet::ema, .variant = variant});
    } catch (const Error& error) {  // may advise `weights` ema, which is chosen by --raw here
        throw Error(std::regex_replace(error.what(), std::regex("use `weights` ema"), "leave --raw out"));
    }
    const WeightTable table(network.model->named_parameters());
    const auto warnings = table.warnings();
    if (json) {
        const Json report{{"model", run},           {"weights", raw ? "raw" : "ema"},
                          {"notes", network.notes}, {"tensors", table.to_json()},
                          {"warnings", warnings},   {"not_finite", table.not_finite()}};
        fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
        for (const auto& note : network.notes) fmt::print("{}\n", note);
        fmt::print("{}: {} weights, {} tensors\n\n{}", run, raw ? "raw" : "averaged (EMA)",
                   table.tensors().size(), table.to_text());
        for (const auto& line : warnings) fmt::print("warning: {}\n", line);
        if (warnings.empty()) fmt::print("\nall weights are finite, and no output channel is all zero\n");
    }
    std::fflush(stdout);
    require(table.not_finite() == 0, "{}: weights that are NaN or infinite: {}", run, table.not_finite());
    return 0;
}

std::string memory_text(const StepMemory& memory, std::int64_t batch) {
    const auto mib = [](std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
    const auto images = static_cast<double>(batch);
    const double off = 100 * (mib(memory.predicted()) / mib(memory.measured) - 1);
    std::string text = "memory of a training step, MiB (the data set comes on top)\n";
    const auto row = [&](const char* what, std::size_t bytes, const std::string& note) {
        text += fmt::format("  {:<40} {:>8.1f}  {}", what, mib(bytes), note);
        text.erase(text.find_last_not_of(' ') + 1);
        text += '\n';
    };
    row("parameters, gradients, moments, average", memory.state,
        fmt::format("5 x {:.1f}", mib(memory.state) / 5));
    if (memory.copy > 0) row("parameters in bfloat16", memory.copy, "");
    row("images of the batch", memory.images, "");
    row("saved tensors, gradients, scratch memory", memory.backward,
        fmt::format("{:.2f} an image", mib(memory.backward) / images));
    row("predicted peak", memory.predicted(), "");
    row("measured peak", memory.measured, fmt::format("the prediction is {:+.1f} %", off));
    row("for each further image of the batch",
        (memory.images + memory.backward) / static_cast<std::size_t>(batch), "");
    return text;
}

/// The variants that were chosen while the step ran, a line for each kernel and size.
std::string kernels_text(const VariantMap& choices) {
    if (choices.empty()) return "kernels: on the CPU they follow from the sizes alone\n";
    std::string text = "kernels chosen on this device\n";
    for (const auto& [call, variant] : choices) text += fmt::format("  {:<70} {}\n", call, variant);
    return text;
}

/// "12.44 GFLOP", "4.78 TFLOP".
std::string flop_text(double flops) {
    return flops < 1e9    ? fmt::format("{:.4g} MFLOP", flops / 1e6)
           : flops < 1e12 ? fmt::format("{:.4g} GFLOP", flops / 1e9)
                          : fmt::format("{:.4g} TFLOP", flops / 1e12);
}

int InspectCommand::operator()() const {
    check();
    const auto graph_file = graph.empty() ? nullptr : open_graph_file(graph, force);
    const Computation computation = execution.apply();
    if (weights) return show_weights();
    const Subject subject = this->subject();
    const std::int64_t images = subject.train.optimizer.batch, passes = subject.train.optimizer.grad_accum;
    // One micro-batch is enough: the others of an accumulated step need the same memory again.
    TrainConfig measured = subject.train;
    measured.optimizer.grad_accum = 1;
    const Device device = computation.device;
    const auto allocator = allocator_of(device);
    const std::size_t before = allocator->stats().in_use;
    Trainer trainer(measured, {subject.unet, measured.scheduler()}, blank_images(subject.unet, images),
                    {.computation = computation, .graph = false});
    LayerTable table(trainer.model(), images);
    allocator->reset_peak();
    {
        const trace::Listen listen(table);
        trainer.step();
    }
    const nn::UNetConfig& unet = trainer.unet_config();
    StepMemory memory{
        .state = static_cast<std::size_t>(5 * table.parameters()) * sizeof(float),
        .copy = computation.precision == Precision::bfloat16
                    ? static_cast<std::size_t>(table.parameters()) * sizeof(bfloat16)
                    : 0,
        .images = static_cast<std::size_t>(images * unet.height * unet.width * unet.in_channels),
        .saved = table.saved_bytes(),
        .backward = table.backward_bytes(),
        .measured = allocator->stats().peak_in_use - before};
    const auto flops = table.flops();
    const double step_flops = (flops.forward + flops.backward) * static_cast<double>(passes);
    if (json) {
        const Json report{{"model", subject.name},
                          {"notes", subject.notes},
                          {"image", {unet.height, unet.width, unet.in_channels}},
                          {"batch", images},
                          {"forward_passes", passes},
                          {"parameters", table.parameters()},
                          {"forward_flops_per_image", flops.forward / static_cast<double>(images)},
                          {"training_step_flops", step_flops},
                          {"saved_bytes", memory.saved},
                          {"memory",
                           {{"state", memory.state},
                            {"copy", memory.copy},
                            {"images", memory.images},
                            {"saved", memory.saved},
                            {"backward", memory.backward},
                            {"predicted_peak", memory.predicted()},
                            {"measured_peak", memory.measured}}},
                          {"layers", table.to_json()},
                          {"kernels", variant_choices(device)}};
        fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
        for (const auto& note : subject.notes) fmt::print("{}\n", note);
        fmt::print("{}: {}x{}x{}, {:.2f} M parameters\n\n{}\n", subject.name, unet.height, unet.width,
                   unet.in_channels, static_cast<double>(table.parameters()) / 1e6, table.to_text());
        fmt::print("forward {} an image; a training step of {} {} {}\n\n{}\n{}",
                   flop_text(flops.forward / static_cast<double>(images)), images * passes,
                   images * passes == 1 ? "image" : "images", flop_text(step_flops), table.shares_text(),
                   memory_text(memory, images));
    }
    if (kernels && !json) fmt::print("\n{}", kernels_text(variant_choices(device)));
    if (!graph.empty()) {
        const fs::path written = write_graph(*graph_file, table.root());
        if (!json) fmt::print("graph -> {}\n", written.string());
    }
    require(std::fflush(stdout) == 0, "inspect: standard output cannot be written");
    return 0;
}

}  // namespace

Action add_inspect(CLI::App& app) {
    auto command = std::make_shared<InspectCommand>();
    auto& c = *command;
    c.app = &app;
    app.add_option("RUN", c.run, "Run directory, or a folder that diffusers saved");
    app.add_option("--config", c.config, "Instead of a run: a TOML file of options of ito train");
    app.add_option("--batch", c.batch, "Images of the step that is measured; the run's, else 1");
    app.add_option("--graph", c.graph, "Also the autograd graph of the step: NAME.dot, or NAME.svg");
    app.add_flag("--weights", c.weights, "Statistics of the weights; status 1 if one is NaN or infinite");
    app.add_flag("--raw", c.raw, "With --weights: those being trained, not their average");
    app.add_option("--variant", c.variant, "With --weights: of those that diffusers saved, such as fp16");
    app.add_flag("--kernels", c.kernels,
                 "On CUDA: also which variant of each kernel was chosen for which sizes");
    app.add_flag("--force", c.force, "Replace an existing graph");
    app.add_flag("--json", c.json, "Print one JSON object");
    c.execution.add_options(app);
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
