#include "diffusion/report/figures.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/ops/noising.h"
#include "core/ops/random.h"
#include "diffusion/data/data_order.h"
#include "diffusion/image/grid.h"
#include "diffusion/image/text.h"
#include "diffusion/solvers/sampler.h"

namespace ito::diffusion {
namespace {

constexpr std::int64_t most_rows = 4, forward_columns = 8, reverse_columns = 10;
constexpr std::int64_t batch = 16;  // images of one forward pass, at least most_rows
constexpr std::int64_t padding = 2, gap = 6;
constexpr std::uint8_t paper = 255;

/// How many images of this size a picture may have.
std::int64_t room_for(std::int64_t height, std::int64_t width) {
    return std::max<std::int64_t>(1, max_image_pixels / 2 / std::max<std::int64_t>(1, height * width));
}

/// A grid of images under labels of its columns, with labels of its rows at the left.
struct LabelledGrid {
    std::int64_t height = 0, width = 0, channels = 0;
    std::vector<std::string> columns, rows;
    /// How many rows form a group; there is more room between groups. 0: all rows are one.
    std::int64_t group = 0;

    Image draw(const std::vector<std::uint8_t>& images) const;
};

/// Copies `from` into `to`.
void paste(const Image& from, Image& to, std::int64_t top, std::int64_t left) {
    for (std::int64_t y = 0; y < from.height; ++y)
        std::copy_n(from.pixels.begin() + y * from.width * from.channels, from.width * from.channels,
                    to.pixels.begin() + ((top + y) * to.width + left) * to.channels);
}

Image blank(std::int64_t height, std::int64_t width, std::int64_t channels) {
    check_image_size(height, width, "figure");
    return {height, width, channels,
            std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * channels), paper)};
}

std::int64_t widest(const std::vector<std::string>& labels, std::int64_t scale) {
    std::int64_t width = 0;
    for (const std::string& label : labels) width = std::max(width, text_width(label, scale));
    return width;
}

/// Double if the labels then still fit above the columns.
std::int64_t text_scale(const std::vector<std::string>& labels, std::int64_t cell) {
    return widest(labels, 2) <= cell ? 2 : 1;
}

Image LabelledGrid::draw(const std::vector<std::uint8_t>& images) const {
    const auto across = static_cast<std::int64_t>(columns.size()),
               down = static_cast<std::int64_t>(rows.size());
    const std::int64_t in_group = group > 0 ? group : down;
    const GridOptions options{.columns = across,
                              .padding = padding,
                              .upscale = default_upscale(across * down, height, width, across),
                              .background = paper};
    const std::int64_t cell_height = height * options.upscale + padding,
                       cell_width = width * options.upscale + padding;
    const std::int64_t scale = text_scale(columns, cell_width);
    const std::int64_t left = widest(rows, scale) + (rows.front().empty() ? 0 : 2 * gap),
                       top = gap / 2 + text_height(scale) + gap / 2;
    const std::int64_t groups = (down + in_group - 1) / in_group;
    Image figure = blank(top + down * cell_height + groups * padding + (groups - 1) * gap,
                         left + across * cell_width + padding, channels);
    for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t count = std::min(in_group, down - g * in_group) * across;
        const auto size = static_cast<std::size_t>(height * width * channels);
        const auto part = std::span(images).subspan(static_cast<std::size_t>(g * in_group * across) * size,
                                                    static_cast<std::size_t>(count) * size);
        paste(make_grid(part, count, height, width, channels, options), figure,
              top + g * (in_group * cell_height + padding + gap), left);
    }
    // If the images are narrower than a label, only every second (or third) column has one.
    const std::int64_t every = (widest(columns, scale) + cell_width) / cell_width;
    for (std::int64_t c = 0; c < across; c += every) {
        const auto& label = columns[static_cast<std::size_t>(c)];
        const std::int64_t middle = left + padding + c * cell_width + (cell_width - padding) / 2;
        draw_text(figure, label, gap / 2, middle - text_width(label, scale) / 2, scale);
    }
    for (std::int64_t r = 0; r < down; ++r)
        draw_text(figure, rows[static_cast<std::size_t>(r)],
                  top + r * cell_height + r / in_group * (padding + gap) + padding +
                      (cell_height - padding - text_height(scale)) / 2,
                  gap / 2, scale);
    return figure;
}

Tensor table(const NoiseSchedule& schedule, double (NoiseSchedule::*value)(std::int64_t) const) {
    std::vector<float> values;
    for (std::int64_t t = 0; t < schedule.timesteps(); ++t)
        values.push_back(static_cast<float>((schedule.*value)(t)));
    return Tensor::from(values, {schedule.timesteps()});
}

void append(std::vector<std::uint8_t>& pixels, std::span<const float> values) {
    const auto more = to_pixels(values);
    pixels.insert(pixels.end(), more.begin(), more.end());
}

/// `count` numbers spread evenly from 0 to `last`, both included; at most all of them.
std::vector<std::int64_t> spread(std::int64_t last, std::int64_t count) {
    count = std::min(count, last + 1);
    std::vector<std::int64_t> numbers;
    for (std::int64_t i = 0; i < count; ++i) numbers.push_back(count > 1 ? i * last / (count - 1) : last);
    return numbers;
}

/// Keeps the pairs of x_t and x_0 that the figure shows, while sampling goes on.
class ReverseTrace {
  public:
    /// `room`: how many states the picture can show.
    ReverseTrace(const ReverseProcess& process, std::int64_t images, std::int64_t room)
        : process_(process),
          kept_(spread(process.size() - 1, std::clamp<std::int64_t>(room / 2, 1, reverse_columns))),
          rows_(std::clamp<std::int64_t>(room / (2 * reverse_columns), 1, std::min(images, most_rows))) {}

    /// x_t before step i.
    void before(std::int64_t i, const Tensor& x) {
        if (keeps(i)) x_.push_back(rows_of(x));
    }
    void estimate(std::int64_t i, const Tensor& x0) {
        if (keeps(i)) x0_.push_back(rows_of(x0));
    }

    Image draw(std::int64_t height, std::int64_t width, std::int64_t channels) const {
        LabelledGrid grid{height, width, channels, {}, {}, 2};
        for (const std::int64_t i : kept_)
            grid.columns.push_back(
                fmt::format("t={}", process_.transitions()[static_cast<std::size_t>(i)].t));
        std::vector<std::uint8_t> pixels;
        const auto size = static_cast<std::size_t>(height * width * channels);
        for (std::int64_t r = 0; r < rows_; ++r)
            for (const auto* states : {&x_, &x0_}) {
                grid.rows.emplace_back(states == &x_ ? "x_t" : "^x_0");
                for (const auto& state : *states)
                    append(pixels, std::span(state).subspan(static_cast<std::size_t>(r) * size, size));
            }
        return grid.draw(pixels);
    }

  private:
    bool keeps(std::int64_t i) const { return std::binary_search(kept_.begin(), kept_.end(), i); }
    std::vector<float> rows_of(const Tensor& images) const {
        return images.slice(0, 0, rows_).to_vector<float>();
    }

    const ReverseProcess& process_;
    std::vector<std::int64_t> kept_;  // steps of the process
    std::int64_t rows_;
    std::vector<std::vector<float>> x_, x0_;
};

}  // namespace

std::vector<std::int64_t> figure_images(std::int64_t count, std::int64_t wanted, std::uint64_t seed) {
    return DataOrder(count, seed).batch(0, std::min(count, wanted));
}

Dataset select(const Dataset& data, const std::vector<std::int64_t>& indices) {
    Dataset some{.count = static_cast<std::int64_t>(indices.size()),
                 .height = data.height,
                 .width = data.width,
                 .channels = data.channels,
                 .images = {},
                 .labels = {},
                 .label_names = {}};
    for (const std::int64_t i : indices) {
        const auto image = data.image(i);
        some.images.insert(some.images.end(), image.begin(), image.end());
    }
    return some;
}

Image forward_figure(const Dataset& real, const NoiseSchedule& schedule, std::uint64_t seed) {
    require(real.count >= 1, "figures: there are no images to show");
    const std::int64_t room = room_for(real.height, real.width);
    const std::int64_t rows =
        std::clamp<std::int64_t>(room / (forward_columns + 1), 1, std::min(real.count, most_rows));
    const Tensor images = Tensor::from(
        std::vector<std::uint8_t>(real.images.begin(), real.images.begin() + rows * real.image_size()),
        {rows, real.height, real.width, real.channels});
    const Tensor signal = table(schedule, &NoiseSchedule::signal),
                 sigma = table(schedule, &NoiseSchedule::sigma);
    LabelledGrid grid{real.height, real.width, real.channels, {"x_0"}, {}, 0};
    std::vector<std::vector<float>> states;
    const std::int64_t columns = std::clamp<std::int64_t>(room - 1, 1, forward_columns);
    std::vector<std::int64_t> timesteps;
    // c squared, because most changes that can be seen happen early.
    for (std::int64_t c = 1; c <= columns; ++c) {
        const std::int64_t t = (schedule.timesteps() - 1) * c * c / (columns * columns);
        if (timesteps.empty() || t > timesteps.back()) timesteps.push_back(t);
    }
    for (const std::int64_t t : timesteps) {
        grid.columns.push_back(fmt::format("t={}", t));
        states.push_back(ops::noising({.images = images,
                                       .index = {},
                                       .t = Tensor::full({rows}, static_cast<double>(t), DType::int64),
                                       .signal = signal,
                                       .sigma = sigma,
                                       .noise = {.seed = seed, .purpose = kernels::Purpose::noise}})
                             .to_vector<float>());
    }
    std::vector<std::uint8_t> pixels;
    const auto size = static_cast<std::size_t>(real.image_size());
    for (std::int64_t r = 0; r < rows; ++r) {
        grid.rows.emplace_back();
        const auto x0 = real.image(r);
        pixels.insert(pixels.end(), x0.begin(), x0.end());
        for (const auto& state : states)
            append(pixels, std::span(state).subspan(static_cast<std::size_t>(r) * size, size));
    }
    return grid.draw(pixels);
}

ReverseFigures reverse_figures(const Pipeline& pipeline, const FigureOptions& options) {
    const auto& config = pipeline.model->config();
    const NoiseSchedule schedule(pipeline.scheduler.schedule);
    require(options.images >= 1 && options.images <= 256, "`images` {}: expected 1 to 256", options.images);
    require(options.steps >= 0 && options.steps <= schedule.timesteps(),
            "`steps` {}: expected 1 to {}, the steps of this model, or 0 for all", options.steps,
            schedule.timesteps());
    require(config.in_channels == 1 || config.in_channels == 3,
            "figures: the model makes images of {} channels; expected 1 or 3", config.in_channels);
    const std::int64_t steps = options.steps > 0 ? options.steps : schedule.timesteps();
    const ReverseProcess process = preview_process(pipeline.scheduler, steps);

    const std::int64_t room = room_for(config.height, config.width);
    const std::int64_t count = std::clamp<std::int64_t>(room / 2, 1, options.images);
    ReverseFigures figures{{}, {}, count, config.height, config.width, config.in_channels};
    ReverseTrace trace(process, count, room);
    Tensor start = Tensor::empty({std::min(count, batch), config.height, config.width, config.in_channels});
    ops::fill_normal(start, {.seed = options.seed, .purpose = kernels::Purpose::start});
    trace.before(0, start);
    const std::int64_t all_steps = (count + batch - 1) / batch * steps;
    const auto on_step = [&](std::int64_t i, std::int64_t first, const Tensor& x, const Tensor& x0) {
        if (first == 0) {
            trace.estimate(i, x0);
            if (i + 1 < steps) trace.before(i + 1, x);
        }
        return !options.on_step || options.on_step(first / batch * steps + i + 1, all_steps);
    };
    figures.images = sample(*pipeline.model, process,
                            {.count = count,
                             .batch = batch,
                             .seed = options.seed,
                             .clip = pipeline.scheduler.clip(),
                             .compute = pipeline.compute,
                             .graph = options.graph,
                             .on_step = on_step})
                         .to_vector<float>();
    figures.progressive = trace.draw(config.height, config.width, config.in_channels);
    return figures;
}

Image comparison_figure(const Dataset& real, const ReverseFigures& generated) {
    require(real.height == generated.height && real.width == generated.width &&
                real.channels == generated.channels,
            "the data set has images of {}x{}x{}, the model makes {}x{}x{}", real.height, real.width,
            real.channels, generated.height, generated.width, generated.channels);
    const auto columns = grid_size(generated.count, real.height, real.width, real.channels).columns;
    const std::int64_t upscale = default_upscale(2 * generated.count, real.height, real.width, 2 * columns);
    const GridOptions look{.columns = columns, .padding = padding, .upscale = upscale, .background = paper};
    const Image grids[] = {make_grid(real.images, real.count, real.height, real.width, real.channels, look),
                           make_grid(std::span<const float>(generated.images), generated.count, real.height,
                                     real.width, real.channels, look)};
    const std::string labels[] = {"real", "generated"};
    const std::int64_t side = grids[1].width, scale = text_scale({labels[0], labels[1]}, side),
                       top = gap / 2 + text_height(scale) + gap / 2, between = 4 * gap;
    Image figure = blank(top + std::max(grids[0].height, grids[1].height), 2 * side + between, real.channels);
    for (std::int64_t i = 0; i < 2; ++i) {
        const std::int64_t left = i * (side + between);
        paste(grids[i], figure, top, left);
        draw_text(figure, labels[i], gap / 2, left + padding, scale);
    }
    return figure;
}

}  // namespace ito::diffusion
