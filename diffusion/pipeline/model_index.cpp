#include "diffusion/pipeline/model_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/io/file_kind.h"
#include "core/io/json_depth.h"

namespace ito::diffusion {
namespace {

using Json = nlohmann::json;

std::string shown(const Json& value) {
    return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// Why ito cannot sample a pipeline with this part.
std::string reason_of(const std::string& part) {
    if (part == "vae" || part == "vqvae" || part == "movq" || part == "image_vae")
        return "its network makes latents, not pixels";
    if (part.find("encoder") != std::string::npos || part == "tokenizer" || part == "bert" || part == "prior")
        return "its images depend on a text or another image";
    if (part == "mel" || part == "vocoder") return "it makes sound";
    return "ito's pipelines have only unet and scheduler";
}

}  // namespace

ModelIndex parse_model_index(const std::string& text, const std::string& source) {
    require_json_kind(text, source);
    require_shallow_json(text, source);
    const Json json = Json::parse(text, nullptr, false);
    require(!json.is_discarded() && json.is_object(),
            "{}: not a JSON object (cut short? download or copy it again)", source);
    ModelIndex index;
    for (const auto& [key, value] : json.items()) {
        if (key == "_class_name") {
            require(value.is_string(), "{}: \"_class_name\" is {}, expected the name of a pipeline", source,
                    shown(value));
            index.pipeline = value.get<std::string>();
        }
        // A part is ["library", "Class"], [null, null] where it was left out; everything else is an option.
        if (key.starts_with('_') || !value.is_array() || value.size() != 2) continue;
        if (value[0].is_null() && value[1].is_null()) continue;
        require(value[1].is_string(), "{}: \"{}\" is {}, expected [library, class]", source, excerpt(key),
                shown(value));
        index.parts.emplace(key, value[1].get<std::string>());
    }
    require(!index.pipeline.empty(), "{}: has no \"_class_name\", expected that of a pipeline", source);
    return index;
}

void require_pixel_pipeline(const ModelIndex& index, const std::string& source) {
    const std::string pipeline = excerpt(index.pipeline);
    constexpr const char* remedy =
        "ito samples pipelines of a UNet2DModel and a scheduler, such as DDPMPipeline";
    // The message names the part that says most about the pipeline.
    std::vector<std::string> others;
    for (const auto& [part, type] : index.parts)
        if (part != "unet" && part != "scheduler") others.push_back(part);
    std::stable_sort(others.begin(), others.end(), [](const std::string& a, const std::string& b) {
        const auto latent = [](const std::string& part) { return part.find("vae") != std::string::npos; };
        return latent(a) > latent(b);
    });
    require(others.empty(), "{}: a {} with {}: {}; {}", source, pipeline,
            others.empty() ? "" : excerpt(others[0]), others.empty() ? "" : reason_of(others[0]), remedy);
    for (const char* word : {"LDM", "Latent", "StableDiffusion"})
        require(index.pipeline.find(word) == std::string::npos,
                "{}: a {}: its network makes latents, not pixels; {}", source, pipeline, remedy);
    const auto unet = index.parts.find("unet");
    require(unet != index.parts.end(), "{}: a {} without \"unet\"; {}", source, pipeline, remedy);
    require(unet->second == "UNet2DModel", "{}: \"unet\" of this {} is {}; {}", source, pipeline,
            excerpt(unet->second), remedy);
}

}  // namespace ito::diffusion
