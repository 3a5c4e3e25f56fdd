#pragma once
// model_index.json of a diffusers pipeline: its class and its parts. ito samples pipelines of one network that works on pixels.
// It refuses others, because what it drew with them would look like a result.

#include <map>
#include <string>

namespace ito::diffusion {

struct ModelIndex {
    std::string pipeline;  ///< _class_name
    std::map<std::string, std::string>
        parts;  ///< class by name ("unet": "UNet2DModel"), without those that are null
};

/// `source` names the file in errors.
ModelIndex parse_model_index(const std::string& text, const std::string& source);

/// Throws Error saying why ito cannot sample the pipeline, unless it consists of a UNet2DModel and a scheduler.
void require_pixel_pipeline(const ModelIndex& index, const std::string& source);

}  // namespace ito::diffusion
