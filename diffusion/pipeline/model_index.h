#pragma once
// model_index.json of a diffusers pipeline: its class and its parts. ito makes images from one network that works on their pixels;
// what a pipeline for something else drew would look like a result.

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

/// Throws Error saying why ito cannot sample such a pipeline, unless it is made of a UNet2DModel and a scheduler alone.
void require_pixel_pipeline(const ModelIndex& index, const std::string& source);

}  // namespace ito::diffusion
