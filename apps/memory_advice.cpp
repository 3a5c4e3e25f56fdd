#include "apps/memory_advice.h"

#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/io/system.h"
#include "core/memory/allocator.h"

namespace ito::apps {

using namespace diffusion;

namespace {

/// The part of the free memory that can be counted on: blocks of different sizes leave gaps.
constexpr double usable = 0.95;

/// The allocator's peak in a step of `images` images, less what was in use before.
std::size_t step_memory(TrainConfig config, const ModelConfig& model, TrainerOptions options,
                        std::int64_t images) {
    config.optimizer.batch = images;
    config.optimizer.grad_accum = 1;
    options.graph = false;
    options.images = ImagePlace::device;
    Dataset blank;
    blank.count = images;
    blank.height = model.unet.height, blank.width = model.unet.width;
    blank.channels = model.unet.in_channels;
    blank.images.resize(static_cast<std::size_t>(images * blank.image_size()), 128);
    const auto allocator = allocator_of(options.computation.device);
    const std::size_t before = allocator->stats().in_use;
    allocator->reset_peak();
    Trainer trainer(config, model, std::move(blank), options);
    trainer.step();
    trainer.window();  // waits: an error shows here
    return allocator->stats().peak_in_use - before;
}

std::size_t free_memory(const Device& device) {
    const AllocatorStats held = allocator_of(device)->stats();
    const std::size_t free = device.is_cuda() ? cuda::device_info(device.index).free
                                              : static_cast<std::size_t>(system::memory().available);
    return free + held.slab_bytes - held.in_use;
}

/// About the largest batch that fits, 0 if none does.
std::int64_t batch_that_fits(const TrainConfig& config, const ModelConfig& model,
                             const TrainerOptions& options, std::size_t data_bytes) {
    try {
        const auto memory = static_cast<double>(free_memory(options.computation.device));
        const auto one = static_cast<double>(step_memory(config, model, options, 1)),
                   two = static_cast<double>(step_memory(config, model, options, 2));
        // A data set that takes too much stays on the host.
        const double data =
            static_cast<double>(data_bytes) > memory / 2 ? 0 : static_cast<double>(data_bytes);
        const double left = usable * memory - data - one;
        return left < 0 ? 0 : 1 + static_cast<std::int64_t>(left / std::max(two - one, 1.0));
    } catch (const OutOfMemory&) {
        return 0;
    }
}

}  // namespace

Fitting training_that_fits(const TrainConfig& config, const ModelConfig& model, const TrainerOptions& options,
                           std::size_t data_bytes) {
    // A step with one photograph of full size takes hours, most of it attention.
    constexpr std::int64_t most_pixels = 512 * 512;
    const nn::UNetConfig& unet = model.unet;
    const std::int64_t pixels = unet.height * unet.width;
    Fitting fits;
    if (pixels <= most_pixels) fits.batch = batch_that_fits(config, model, options, data_bytes);
    if (fits.batch >= config.optimizer.batch) return fits;
    for (const std::int64_t side : {128, 64, 32}) {
        if (side >= std::min(unet.height, unet.width)) continue;
        try {
            ModelConfig smaller = model;
            if (config.model.init_from.empty()) {
                smaller.unet = config.unet(side, side, unet.in_channels);
            } else {
                smaller.unet.height = smaller.unet.width = side;
            }
            const double bytes = static_cast<double>(data_bytes) * static_cast<double>(side * side) /
                                 static_cast<double>(pixels);
            if (batch_that_fits(config, smaller, options, static_cast<std::size_t>(bytes)) <
                config.optimizer.batch)
                continue;
            fits.image_size = side;
            break;
        } catch (const Error&) {
            // Options that name sizes, like --attention-resolutions, do not allow this one.
        }
    }
    return fits;
}

}  // namespace ito::apps
