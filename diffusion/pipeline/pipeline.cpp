#include "diffusion/pipeline/pipeline.h"

#include <algorithm>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/text_file.h"
#include "diffusion/pipeline/model_index.h"
#include "diffusion/run/run.h"
#include "nn/state.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

namespace {

void load_checkpoint(const Run& run, std::int64_t step, WeightSet set, const nn::UNet& model) {
    const auto steps = run.checkpoint_steps();
    require(std::find(steps.begin(), steps.end(), step) != steps.end(),
            "`step` {}: {} has no such checkpoint; there are [{}]", step, run.root().string(),
            fmt::join(steps, ", "));
    nn::load_tensors(
        run.checkpoint(step) / (set == WeightSet::raw ? "weights.safetensors" : "ema.safetensors"),
        model.named_parameters());
}

void load_raw(const Run& run, const nn::UNet& model) {
    for (auto checkpoint = run.latest_checkpoint();;) {
        require(checkpoint.has_value(), "{}: no trainer/step-* checkpoint{}", run.root().string(),
                present(run.lock()) && !present(run.unet_weights())
                    ? fmt::format(" yet, and so no weights: go on with ito train `resume` {}",
                                  run.root().string())
                    : ", so only the ema weights are there; use `weights` ema");
        try {
            nn::load_tensors(*checkpoint / "weights.safetensors", model.named_parameters());
            return;
        } catch (const Error&) {
            // A training may just have replaced this checkpoint by its next.
            if (run.latest_checkpoint() == checkpoint) throw;
            checkpoint = run.latest_checkpoint();
        }
    }
}

nn::UNetConfig read_config(const PipelineFolder& found, std::vector<std::string>* notes) {
    const fs::path file = found.unet / "config.json";
    const auto config = nn::UNetConfig::from_json(read_json_text(file), file.string(), notes);
    require(config.in_channels == config.out_channels,
            "{}: {} input and {} output channels; training and sampling need as many (a learned variance is "
            "not supported)",
            file.string(), config.in_channels, config.out_channels);
    return config;
}

Network load_found(const PipelineFolder& found, const WeightChoice& choice) {
    Network network;
    network.notes = found.notes;
    network.model = std::make_shared<nn::UNet>(read_config(found, &network.notes));
    network.model->eval();
    const Run run(found.root);
    const bool of_trainer = choice.step || (choice.set == WeightSet::raw && !found.chosen);
    require(!of_trainer || choice.variant.empty(),
            "`variant` {}: is about what diffusers saved; leave it out with `step` and `weights` raw",
            choice.variant);
    if (choice.step) {
        load_checkpoint(run, *choice.step, choice.set, *network.model);
    } else if (of_trainer) {
        load_raw(run, *network.model);
    } else {
        const std::string remedy =
            present(run.lock()) ? "a training writes them with its first checkpoint, and there is none yet"
                                : found.remedy;
        const fs::path file = find_weights(found.unet, choice.variant, network.notes, remedy);
        for (auto& note : nn::load_weights(nn::WeightFiles(file), network.model->named_parameters()))
            network.notes.push_back(std::move(note));
    }
    return network;
}

SchedulerConfig read_schedule(const PipelineFolder& found, std::vector<std::string>& notes) {
    const fs::path file = found.scheduler / "scheduler_config.json";
    if (!present(file)) {
        const fs::path& folder = present(found.scheduler) ? found.scheduler : found.root;
        fail("{}: the noise schedule is missing, and sampling needs it; {} has: {}; {}", file.string(),
             folder.filename().string(), listed(names_in(folder)),
             found.remedy.empty() ? "copy it there from the model's training (scheduler.save_pretrained)"
                                  : found.remedy);
    }
    return read_scheduler_config(file, &notes);
}

/// Refuses a pipeline that ito cannot sample; adds a note if its class is not known.
void check_pipeline(const PipelineFolder& found, std::vector<std::string>& notes) {
    if (!found.model_index) {
        // Without an index, folders of other parts tell.
        for (const char* part : {"vae", "vqvae", "movq", "text_encoder", "image_encoder"})
            require(!fs::is_directory(found.unet.parent_path() / part),
                    "{}: lies beside {}/, so that its network does not make pixels by itself; ito samples "
                    "pipelines of a UNet2DModel and a scheduler",
                    found.unet.string(), part);
        return;
    }
    const std::string file = found.model_index->string();
    const ModelIndex index = parse_model_index(read_text(file), file);
    require_pixel_pipeline(index, file);
    for (const char* known : {"DDPMPipeline", "DDIMPipeline", "PNDMPipeline"})
        if (index.pipeline == known) return;
    notes.push_back(fmt::format("pipeline: {}, sampled as a DDPMPipeline", excerpt(index.pipeline)));
}

}  // namespace

void Network::to(const Computation& computation) {
    model->to(computation.device);
    compute = computation.type();
}

nn::UNetConfig read_unet_config(const fs::path& folder, std::vector<std::string>* notes) {
    const PipelineFolder found = find_pipeline(folder, WeightSet::ema);
    if (notes) notes->insert(notes->end(), found.notes.begin(), found.notes.end());
    return read_config(found, notes);
}

Network load_network(const fs::path& folder, const WeightChoice& choice) {
    return load_found(find_pipeline(folder, choice.set), choice);
}

Pipeline load_pipeline(const fs::path& folder, const WeightChoice& choice) {
    const PipelineFolder found = find_pipeline(folder, choice.set);
    std::vector<std::string> notes;
    check_pipeline(found, notes);
    SchedulerConfig scheduler = read_schedule(found, notes);
    Pipeline pipeline{load_found(found, choice), std::move(scheduler)};
    pipeline.notes.insert(pipeline.notes.end(), notes.begin(), notes.end());
    return pipeline;
}

void write_pipeline(const fs::path& folder, const nn::UNetConfig& unet, const SchedulerConfig& scheduler) {
    make_folder(folder / "unet");
    make_folder(folder / "scheduler");
    write_file_atomically(folder / "model_index.json",
                          std::string_view("{\n"
                                           "  \"_class_name\": \"DDPMPipeline\",\n"
                                           "  \"_diffusers_version\": \"0.21.4\",\n"
                                           "  \"scheduler\": [\"diffusers\", \"DDPMScheduler\"],\n"
                                           "  \"unet\": [\"diffusers\", \"UNet2DModel\"]\n"
                                           "}\n"));
    write_file_atomically(folder / "unet" / "config.json", unet.to_json());
    write_scheduler_config(folder / "scheduler" / "scheduler_config.json", scheduler);
}

}  // namespace ito::diffusion
