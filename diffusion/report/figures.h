#pragma once
// Pictures of what a diffusion model does, for a paper, a talk or a report:
//
//   forward.png       real images, and what the forward process makes of them at eight timesteps
//   progressive.png   the reverse process: x_t, and below it ^x_0, the estimate of x_0 that the network makes from it
//   comparison.png    real images beside generated ones
//   loss.svg          the loss over the steps, and by timestep
//
// All that is random follows from a seed.

#include <cstdint>
#include <functional>
#include <vector>

#include "diffusion/data/dataset.h"
#include "diffusion/image/image.h"
#include "diffusion/pipeline/pipeline.h"

namespace ito::diffusion {

struct FigureOptions {
    std::int64_t images = 16;  ///< generated, and as many real ones beside them
    std::int64_t steps = 50;   ///< of sampling, spread over the timesteps as the scheduler says; 0: all
    std::uint64_t seed = 0;
    bool graph = true;  ///< see SampleOptions
    /// Called after every step of sampling; returning false ends it with an Error.
    std::function<bool(std::int64_t step, std::int64_t steps)> on_step = {};
};

/// Which of `count` images the figures show: the first of a permutation, at most `wanted`.
std::vector<std::int64_t> figure_images(std::int64_t count, std::int64_t wanted, std::uint64_t seed);

/// The images with these indices.
Dataset select(const Dataset& data, const std::vector<std::int64_t>& indices);

/// One row for each of the first images (at most four), x_0 at the left. Along a row the noise is the same.
Image forward_figure(const Dataset& real, const NoiseSchedule& schedule, std::uint64_t seed);

/// What was sampled, and a picture of the way there.
struct ReverseFigures {
    Image progressive;          ///< of the first images, at most four
    std::vector<float> images;  ///< [count, H, W, C]
    std::int64_t count = 0, height = 0, width = 0, channels = 0;
};
/// Throws Error naming the option if a count is out of range, before it samples.
ReverseFigures reverse_figures(const Pipeline& pipeline, const FigureOptions& options);

/// As many real as generated images, if there are enough.
Image comparison_figure(const Dataset& real, const ReverseFigures& generated);

}  // namespace ito::diffusion
