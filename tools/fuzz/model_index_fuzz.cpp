// model_index.json: what may be sampled is made of a UNet2DModel and perhaps a scheduler, and of nothing else.

#include "diffusion/pipeline/model_index.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(model_index) {
    diffusion::ModelIndex index;
    if (!fuzz::accepts([&] { index = diffusion::parse_model_index(std::string(fuzz::text_of(input)), "f"); }))
        return;
    if (!fuzz::accepts([&] { diffusion::require_pixel_pipeline(index, "f"); })) return;
    const auto unet = index.parts.find("unet");
    fuzz::expect(unet != index.parts.end() && unet->second == "UNet2DModel",
                 "a pipeline without its network");
    fuzz::expect(index.parts.size() == 1 + index.parts.count("scheduler"), "a pipeline of {} parts",
                 index.parts.size());
}
