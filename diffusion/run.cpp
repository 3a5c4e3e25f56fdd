#include "diffusion/run.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "core/atomic_file.h"
#include "nn/state.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

namespace {

/// Calls visit(path, step) for every complete checkpoint: those have their final name.
template <class Visit>
void for_each_checkpoint(const fs::path& trainer, Visit&& visit) {
    std::error_code error;
    std::vector<fs::path> entries;
    for (const auto& entry : fs::directory_iterator(trainer, error)) entries.push_back(entry.path());
    for (const auto& path : entries) {
        const auto step = step_of_checkpoint(path);
        if (step && fs::is_directory(path, error)) visit(path, *step);
    }
}

}  // namespace

std::optional<std::int64_t> step_of_checkpoint(const fs::path& checkpoint) {
    const std::string filename = checkpoint.filename().string();
    std::string_view name = filename;
    constexpr std::string_view prefix = "step-";
    if (!name.starts_with(prefix)) return {};
    name.remove_prefix(prefix.size());
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
    if (error != std::errc() || end != name.data() + name.size() || step < 0) return {};
    return step;
}

bool Run::vacant() const {
    std::error_code error;
    if (!fs::exists(root_, error)) return !error;
    if (!fs::is_directory(root_, error)) return false;
    const std::string unfinished = config().filename().string() + ".";
    for (fs::directory_iterator entry(root_, error), end; !error && entry != end; entry.increment(error)) {
        const fs::path name = entry->path().filename();
        if (name != lock().filename() && !name.string().starts_with(unfinished)) return false;
    }
    return !error;
}

fs::path Run::checkpoint(std::int64_t steps) const {
    return trainer() / fmt::format("step-{:08}", steps);
}

std::optional<fs::path> Run::latest_checkpoint() const {
    std::optional<fs::path> latest;
    std::int64_t highest = -1;
    for_each_checkpoint(trainer(), [&](const fs::path& path, std::int64_t step) {
        if (step <= highest) return;
        highest = step;
        latest = path;
    });
    return latest;
}

std::vector<std::int64_t> Run::checkpoint_steps() const {
    std::vector<std::int64_t> steps;
    for_each_checkpoint(trainer(), [&](const fs::path&, std::int64_t step) { steps.push_back(step); });
    std::sort(steps.begin(), steps.end());
    return steps;
}

void Run::keep_latest_checkpoints(std::int64_t count) const {
    std::vector<std::pair<std::int64_t, fs::path>> checkpoints;
    for_each_checkpoint(
        trainer(), [&](const fs::path& path, std::int64_t step) { checkpoints.emplace_back(step, path); });
    std::sort(checkpoints.rbegin(), checkpoints.rend());
    std::error_code ignored;
    for (auto i = static_cast<std::size_t>(count); i < checkpoints.size(); ++i)
        fs::remove_all(checkpoints[i].second, ignored);
}

void Run::discard() const {
    require(!latest_checkpoint(), "{}: has a checkpoint, and is not discarded", root_.string());
    std::error_code ignored;
    for (const fs::path& path : {config(), config_toml(), left_out(), metrics(), root_ / "model_index.json"})
        fs::remove(path, ignored);
    for (const fs::path& folder : {samples(), trainer(), root_ / "unet", root_ / "scheduler", tensorboard()})
        fs::remove_all(folder, ignored);
}

void Run::remove_abandoned_files() const {
    for (const fs::path& folder : {root_, root_ / "unet", root_ / "scheduler", samples(), trainer()})
        remove_abandoned(folder);
}

void Run::write_pipeline(const nn::UNetConfig& unet, const SchedulerConfig& scheduler) const {
    make_folder(root_ / "unet");
    make_folder(root_ / "scheduler");
    write_file_atomically(root_ / "model_index.json",
                          std::string_view("{\n"
                                           "  \"_class_name\": \"DDPMPipeline\",\n"
                                           "  \"_diffusers_version\": \"0.21.4\",\n"
                                           "  \"scheduler\": [\"diffusers\", \"DDPMScheduler\"],\n"
                                           "  \"unet\": [\"diffusers\", \"UNet2DModel\"]\n"
                                           "}\n"));
    write_file_atomically(root_ / "unet" / "config.json", unet.to_json());
    write_scheduler_config(root_ / "scheduler" / "scheduler_config.json", scheduler);
}

WeightSet parse_weight_set(const std::string& text) {
    if (text == "ema") return WeightSet::ema;
    if (text == "raw") return WeightSet::raw;
    fail("--weights {}: expected ema or raw", text);
}

namespace {

void load_checkpoint(const Run& run, std::int64_t step, WeightSet set, const nn::UNet& model) {
    const auto steps = run.checkpoint_steps();
    require(std::find(steps.begin(), steps.end(), step) != steps.end(),
            "--step {}: {} has no such checkpoint; there are [{}]", step, run.root().string(),
            fmt::join(steps, ", "));
    nn::load_tensors(
        run.checkpoint(step) / (set == WeightSet::raw ? "weights.safetensors" : "ema.safetensors"),
        model.named_parameters());
}

void load_raw(const Run& run, const nn::UNet& model) {
    for (auto checkpoint = run.latest_checkpoint();;) {
        require(checkpoint.has_value(), "{}: no trainer/step-* checkpoint{}", run.root().string(),
                fs::exists(run.unet_weights())
                    ? ", so only the ema weights are there; use --weights ema (ito inspect: without --raw)"
                    : " yet, and so no weights: go on with ito train --resume");
        try {
            nn::load_tensors(*checkpoint / "weights.safetensors", model.named_parameters());
            return;
        } catch (const Error&) {
            // A training may have removed this checkpoint after its next: then that one is there.
            if (run.latest_checkpoint() == checkpoint) throw;
            checkpoint = run.latest_checkpoint();
        }
    }
}

/// The folders of the network and the scheduler.
struct PipelineFolders {
    fs::path unet, scheduler;
};

PipelineFolders find_pipeline(const fs::path& folder) {
    require(fs::is_directory(folder),
            "{}: no such folder; expected a run (ito train --out) or a saved diffusers pipeline",
            folder.string());
    const bool nested = fs::exists(folder / "unet" / "config.json");
    const fs::path unet = nested ? folder / "unet" : folder;
    const fs::path scheduler = nested ? folder / "scheduler" : folder;
    require(
        fs::exists(unet / "config.json") && fs::exists(scheduler / "scheduler_config.json"),
        "{}: neither a run nor a diffusers pipeline: unet/config.json and scheduler/scheduler_config.json "
        "are missing",
        folder.string());
    return {unet, scheduler};
}

}  // namespace

void Pipeline::to(const Computation& computation) {
    model->to(computation.device);
    compute = computation.type();
}

nn::UNetConfig read_unet_config(const fs::path& folder) {
    const fs::path file = find_pipeline(folder).unet / "config.json";
    const auto config = nn::UNetConfig::from_json(read_text(file), file.string());
    require(
        config.in_channels == config.out_channels,
        "{}: {} input and {} output channels; training and sampling need as many (a learned variance is not "
        "supported)",
        file.string(), config.in_channels, config.out_channels);
    return config;
}

Pipeline load_pipeline(const fs::path& folder, WeightSet weights, std::optional<std::int64_t> step) {
    const auto [unet, scheduler] = find_pipeline(folder);
    Pipeline pipeline;
    pipeline.scheduler = read_scheduler_config(scheduler / "scheduler_config.json");
    pipeline.model = std::make_shared<nn::UNet>(read_unet_config(folder));
    pipeline.model->eval();
    if (step) {
        load_checkpoint(Run(folder), *step, weights, *pipeline.model);
        return pipeline;
    }
    if (weights == WeightSet::raw) {
        load_raw(Run(folder), *pipeline.model);
        return pipeline;
    }
    const fs::path file = unet / "diffusion_pytorch_model.safetensors";
    require(
        fs::exists(file), "{}: the weights are missing{}", file.string(),
        fs::exists(unet / "diffusion_pytorch_model.bin")
            ? "; diffusion_pytorch_model.bin is there, save the pipeline again with safe_serialization=True"
        : fs::exists(Run(folder).lock()) ? " yet: a training writes them with its first checkpoint"
                                         : "");
    nn::load_tensors(file, pipeline.model->named_parameters());
    return pipeline;
}

}  // namespace ito::diffusion
