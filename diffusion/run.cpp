#include "diffusion/run.h"

#include <fstream>
#include <sstream>

#include "core/atomic_file.h"
#include "nn/state.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    require(file.is_open(), "{}: cannot be opened for reading", path.string());
    std::ostringstream text;
    text << file.rdbuf();
    require(!file.bad(), "{}: reading failed", path.string());
    return text.str();
}

void make_folder(const fs::path& path) {
    std::error_code error;
    fs::create_directories(path, error);
    require(!error, "{}: the folder cannot be created: {}", path.string(), error.message());
}

std::optional<fs::path> Run::latest_checkpoint() const {
    std::optional<fs::path> latest;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(trainer(), error)) {
        const std::string name = entry.path().filename().string();
        // Complete ones have their final name; the digits are padded, so names order as numbers do.
        const bool complete =
            name.starts_with("step-") && name.find_first_not_of("0123456789", 5) == std::string::npos;
        if (complete && (!latest || name > latest->filename().string())) latest = entry.path();
    }
    return latest;
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

Pipeline load_pipeline(const fs::path& folder, WeightSet weights) {
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
    Pipeline pipeline;
    pipeline.scheduler = read_scheduler_config(scheduler / "scheduler_config.json");
    const auto config = unet / "config.json";
    pipeline.model =
        std::make_shared<nn::UNet>(nn::UNetConfig::from_json(read_text(config), config.string()));
    const auto& unet_config = pipeline.model->config();
    require(
        unet_config.in_channels == unet_config.out_channels,
        "{}: {} input and {} output channels; sampling needs as many (a learned variance is not supported)",
        config.string(), unet_config.in_channels, unet_config.out_channels);
    fs::path file = unet / "diffusion_pytorch_model.safetensors";
    if (weights == WeightSet::raw) {
        const auto checkpoint = Run(folder).latest_checkpoint();
        require(checkpoint.has_value(),
                "{}: no trainer/step-* checkpoint, so only the ema weights are there; use --weights ema",
                folder.string());
        file = *checkpoint / "weights.safetensors";
    }
    require(
        fs::exists(file), "{}: the weights are missing{}", file.string(),
        fs::exists(unet / "diffusion_pytorch_model.bin")
            ? "; diffusion_pytorch_model.bin is there, save the pipeline again with safe_serialization=True"
            : "");
    nn::load_tensors(file, pipeline.model->named_parameters());
    pipeline.model->eval();
    return pipeline;
}

}  // namespace ito::diffusion
