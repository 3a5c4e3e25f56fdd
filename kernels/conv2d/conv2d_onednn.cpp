// float32 convolution by oneDNN. An image's result must not depend on its batch, so forward and backward-data
// run a primitive made for one image; at the sizes of diffusion models it is as fast as one made for the
// whole batch. Weight gradients run over fixed pieces of the batch and slices of the output channels.
//
// oneDNN's fast implementations take dense images only: where a row stride is larger than the channels, one image
// at a time passes through a dense copy that stays in the cache.

#include <algorithm>
#include <cstring>

#include "kernels/common/scratch.h"
#include "kernels/conv2d/conv2d_algorithms.h"
#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/parallel.h"

namespace ito::kernels::cpu::onednn {
namespace {

using Layout = dnnl::memory::desc;

Layout image_layout(std::int64_t batch, std::int64_t channels, std::int64_t height, std::int64_t width) {
    return Layout({batch, channels, height, width}, dnnl::memory::data_type::f32,
                  dnnl::memory::format_tag::nhwc);
}

Layout weight_layout(const Conv2dShape& shape, dnnl::memory::format_tag tag) {
    return Layout({shape.out_channels, shape.in_channels, shape.kernel_h, shape.kernel_w},
                  dnnl::memory::data_type::f32, tag);
}

/// The layouts that all three directions share.
struct Layouts {
    explicit Layouts(const Conv2dShape& shape)
        : x(image_layout(shape.batch, shape.in_channels, shape.height, shape.width)),
          y(image_layout(shape.batch, shape.out_channels, shape.out_height(), shape.out_width())),
          bias({shape.out_channels}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a),
          plain_weight(weight_layout(shape, dnnl::memory::format_tag::ohwi)),
          any_weight(weight_layout(shape, dnnl::memory::format_tag::any)),
          strides{shape.stride, shape.stride},
          pad_begin{shape.pad_top, shape.pad_left},
          pad_end{shape.pad_bottom, shape.pad_right} {}

    Layout x, y, bias, plain_weight, any_weight;
    dnnl::memory::dims strides, pad_begin, pad_end;
};

dnnl::convolution_forward::primitive_desc describe_forward(const Layouts& layouts,
                                                           const dnnl::engine& engine) {
    return {
        {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, layouts.x,
         layouts.any_weight, layouts.bias, layouts.y, layouts.strides, layouts.pad_begin, layouts.pad_end},
        user_scratchpad(),
        engine};
}

struct ForwardPlan {
    explicit ForwardPlan(const Conv2dShape& image)
        : layouts(image),
          engine(cpu_engine()),
          description(describe_forward(layouts, engine)),
          primitive(description),
          weight(description.weights_desc()),
          scratchpad(description.scratchpad_desc()) {}

    Layouts layouts;
    dnnl::engine engine;
    dnnl::convolution_forward::primitive_desc description;
    dnnl::convolution_forward primitive;
    Layout weight, scratchpad;
};

struct BackwardDataPlan {
    explicit BackwardDataPlan(const Conv2dShape& image)
        : layouts(image),
          engine(cpu_engine()),
          description({dnnl::algorithm::convolution_direct, layouts.x, layouts.any_weight, layouts.y,
                       layouts.strides, layouts.pad_begin, layouts.pad_end},
                      user_scratchpad(), engine, describe_forward(layouts, engine)),
          primitive(description),
          weight(description.weights_desc()),
          scratchpad(description.scratchpad_desc()) {}

    Layouts layouts;
    dnnl::engine engine;
    dnnl::convolution_backward_data::primitive_desc description;
    dnnl::convolution_backward_data primitive;
    Layout weight, scratchpad;
};

/// Reorders a weight gradient into [K, R, S, C], overwriting it or adding to it.
dnnl::reorder::primitive_desc describe_unpack(const dnnl::engine& engine, const Layout& from,
                                              const Layout& to, bool accumulate) {
    dnnl::primitive_attr attributes = user_scratchpad();
    if (accumulate) {
        dnnl::post_ops sum;
        sum.append_sum(1.0f);
        attributes.set_post_ops(sum);
    }
    return {engine, from, engine, to, attributes};
}

struct BackwardWeightsPlan {
    /// `piece`: batch = images of a piece, out_channels = channels of a slice.
    explicit BackwardWeightsPlan(const Conv2dShape& piece)
        : layouts(piece),
          engine(cpu_engine()),
          description({dnnl::algorithm::convolution_direct, layouts.x, layouts.any_weight, layouts.y,
                       layouts.strides, layouts.pad_begin, layouts.pad_end},
                      user_scratchpad(), engine, describe_forward(layouts, engine)),
          primitive(description),
          weight(description.diff_weights_desc()),
          scratchpad(description.scratchpad_desc()),
          unpack_description(describe_unpack(engine, weight, layouts.plain_weight, false)),
          unpack_add_description(describe_unpack(engine, weight, layouts.plain_weight, true)),
          unpack(unpack_description),
          unpack_add(unpack_add_description) {}

    std::size_t unpack_scratch() const {
        return std::max(unpack_description.scratchpad_desc().get_size(),
                        unpack_add_description.scratchpad_desc().get_size());
    }

    Layouts layouts;
    dnnl::engine engine;
    dnnl::convolution_backward_weights::primitive_desc description;
    dnnl::convolution_backward_weights primitive;
    Layout weight, scratchpad;
    dnnl::reorder::primitive_desc unpack_description, unpack_add_description;
    dnnl::reorder unpack, unpack_add;
};

Conv2dShape with_batch(Conv2dShape shape, std::int64_t batch) {
    shape.batch = batch;
    return shape;
}

ForwardPlan& forward_plan(Plans& plans, const Conv2dShape& shape) {
    return plans.get<ForwardPlan>("conv2d_forward", with_batch(shape, 1));
}

BackwardDataPlan& backward_data_plan(Plans& plans, const Conv2dShape& shape) {
    return plans.get<BackwardDataPlan>("conv2d_backward_data", with_batch(shape, 1));
}

template <class Plan>
std::size_t packed_bytes(const Plan& plan) {
    return plan.weight == plan.layouts.plain_weight ? 0 : plan.weight.get_size();
}

template <class Plan>
void pack(const Plan& plan, const float* weight, void* packed) {
    const OneThread one_thread;
    dnnl::memory from = view(plan.layouts.plain_weight, plan.engine, weight);
    dnnl::memory to = view(plan.weight, plan.engine, packed);
    dnnl::stream stream(plan.engine);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
}

/// The weights in the plan's layout: the caller's packed ones, or packed into `buffer`.
template <class Plan>
const void* packed_weight(const Plan& plan, const float* weight, const void* packed, std::byte* buffer) {
    if (packed_bytes(plan) == 0) return weight;
    if (packed) return packed;
    pack(plan, weight, buffer);
    return buffer;
}

/// `count` rows from number `first` on.
template <class T>
View<T> rows_of(const View<T>& all, std::int64_t first, std::int64_t count) {
    return {all.row(first), count, all.columns, all.stride};
}

/// to = from, row by row.
void copy_rows(const View<const float>& from, const View<float>& to) {
    for (std::int64_t i = 0; i < from.rows; ++i)
        std::memcpy(to.row(i), from.row(i), static_cast<std::size_t>(from.columns) * sizeof(float));
}

/// to = from + addend, row by row. `to` and `addend` may be the same.
void add_rows(const View<const float>& from, const View<const float>& addend, const View<float>& to) {
    for (std::int64_t i = 0; i < from.rows; ++i) {
        const float* a = from.row(i);
        const float* b = addend.row(i);
        float* y = to.row(i);
#pragma omp simd
        for (std::int64_t c = 0; c < from.columns; ++c) y[c] = a[c] + b[c];
    }
}

/// Where oneDNN writes the rows `to`: in place if they are dense and nothing is added, else into `buffer`.
float* dense_or(const View<float>& to, const View<const float>& addend, float* buffer) {
    return to.stride == to.columns && !addend ? to.data : buffer;
}
/// to (= addend +) what oneDNN has written to `dense`.
void finish_rows(const float* dense, const View<const float>& addend, const View<float>& to) {
    const View<const float> from{dense, to.rows, to.columns, to.columns};
    if (addend)
        add_rows(from, addend, to);
    else if (dense != to.data)
        copy_rows(from, to);
}

struct ForwardScratch {
    ForwardScratch(const Context& context, const ForwardPlan& plan, const Conv2dForward<float>& args)
        : packed(context, args.packed ? 0 : static_cast<std::int64_t>(packed_bytes(plan))),
          zero_bias(context, args.bias ? 0 : args.shape.out_channels),
          x(context, args.shape.height * args.shape.width * args.shape.in_channels),
          y(context, args.shape.out_height() * args.shape.out_width() * args.shape.out_channels),
          scratchpad(context, static_cast<std::int64_t>(plan.scratchpad.get_size())) {}

    Scratch<std::byte> packed;
    Scratch<float> zero_bias;
    PerWorker<float> x, y;
    PerWorker<std::byte> scratchpad;
};

struct BackwardDataScratch {
    BackwardDataScratch(const Context& context, const BackwardDataPlan& plan,
                        const Conv2dBackwardData<float>& args)
        : packed(context, args.packed ? 0 : static_cast<std::int64_t>(packed_bytes(plan))),
          grad_y(context, args.shape.out_height() * args.shape.out_width() * args.shape.out_channels),
          grad_x(context, args.shape.height * args.shape.width * args.shape.in_channels),
          scratchpad(context, static_cast<std::int64_t>(plan.scratchpad.get_size())) {}

    Scratch<std::byte> packed;
    PerWorker<float> grad_y, grad_x;
    PerWorker<std::byte> scratchpad;
};

/// How a weight gradient is cut. Slices of output channels come first, they need no partial sums; the batch
/// is cut so that a piece has enough pixels (at least 1024 where there are as many) to outweigh writing its
/// partial sum.
struct WeightPieces {
    static constexpr std::int64_t wanted_tasks = 16, slice_channels = 64, piece_pixels = 1024;

    explicit WeightPieces(const Conv2dShape& shape) {
        if (shape.out_channels % slice_channels == 0)
            slice = slice_channels;
        else
            slice = shape.out_channels;
        slices = shape.out_channels / slice;
        const std::int64_t pixels = std::max<std::int64_t>(shape.out_height() * shape.out_width(), 1);
        const std::int64_t most = std::max<std::int64_t>(ceil_div(shape.batch * pixels, piece_pixels), 1);
        count = std::clamp<std::int64_t>(ceil_div(wanted_tasks, slices), 1, most);
        images = std::max<std::int64_t>(ceil_div(shape.batch, count), 1);
        count = std::max<std::int64_t>(ceil_div(shape.batch, images), 1);
    }

    Conv2dShape piece_shape(Conv2dShape shape) const {
        shape.batch = images;
        shape.out_channels = slice;
        return shape;
    }

    std::int64_t slice, slices;  ///< output channels of a slice, number of slices
    std::int64_t images, count;  ///< images of a piece of the batch, number of pieces
};

struct BackwardWeightsScratch {
    BackwardWeightsScratch(const Context& context, const BackwardWeightsPlan& plan, const Conv2dShape& shape,
                           const WeightPieces& pieces)
        : slice_elements(static_cast<std::int64_t>(plan.weight.get_size() / sizeof(float))),
          partial(context, pieces.count * pieces.slices * slice_elements),
          x(context, pieces.images * shape.height * shape.width * shape.in_channels),
          grad_y(context, pieces.images * shape.out_height() * shape.out_width() * pieces.slice),
          scratchpad(context,
                     static_cast<std::int64_t>(std::max(plan.scratchpad.get_size(), plan.unpack_scratch()))) {
    }

    std::int64_t slice_elements;  ///< of one slice in oneDNN's layout, padding included
    Scratch<float> partial;       ///< [pieces][slices][slice_elements]
    PerWorker<float> x, grad_y;
    PerWorker<std::byte> scratchpad;
};

/// `images` images of `pixels` rows from number `first` of `batch` on as a dense block: in place, or copied into `buffer` and
/// completed with zeros, which add nothing to a weight gradient.
const float* dense_images(const View<const float>& all, std::int64_t pixels, std::int64_t batch,
                          std::int64_t first, std::int64_t images, float* buffer) {
    const std::int64_t present = std::min(images, batch - first), channels = all.columns;
    const View<const float> rows = rows_of(all, first * pixels, present * pixels);
    if (all.stride == channels && present == images) return rows.data;
    copy_rows(rows, {buffer, rows.rows, channels, channels});
    std::fill_n(buffer + present * pixels * channels, (images - present) * pixels * channels, 0.0f);
    return buffer;
}

void weight_gradient(const Context& context, const Conv2dBackwardWeights<float>& args,
                     const WeightPieces& pieces, const BackwardWeightsPlan& plan,
                     const BackwardWeightsScratch& scratch) {
    const Conv2dShape& shape = args.shape;
    const std::int64_t slice_elements = scratch.slice_elements;
    parallel_for(context, pieces.count * pieces.slices, [&](std::int64_t task, int worker) {
        const std::int64_t piece = task / pieces.slices, slice = task % pieces.slices;
        const std::int64_t first = piece * pieces.images;
        const float* x = dense_images(args.x, shape.height * shape.width, shape.batch, first, pieces.images,
                                      scratch.x[worker]);
        const View<const float> y_slice{&args.grad_y(0, slice * pieces.slice), args.grad_y.rows, pieces.slice,
                                        args.grad_y.stride};
        const float* grad_y = dense_images(y_slice, shape.out_height() * shape.out_width(), shape.batch,
                                           first, pieces.images, scratch.grad_y[worker]);
        dnnl::stream stream(plan.engine);
        plan.primitive.execute(
            stream,
            {{DNNL_ARG_SRC, view(plan.layouts.x, plan.engine, x)},
             {DNNL_ARG_DIFF_DST, view(plan.layouts.y, plan.engine, grad_y)},
             {DNNL_ARG_DIFF_WEIGHTS, view(plan.weight, plan.engine, scratch.partial + task * slice_elements)},
             {DNNL_ARG_SCRATCHPAD, view(plan.scratchpad, plan.engine, scratch.scratchpad[worker])}});
        stream.wait();
    });

    // Partial sums of all pieces into the first, then back to [K, R, S, C].
    const std::int64_t total = pieces.slices * slice_elements;
    parallel_for(context, pieces.count > 1 ? ceil_div(total, elementwise_piece) : 0,
                 [&](std::int64_t index, int) {
                     const Range range = piece_range(total, elementwise_piece, index);
                     for (std::int64_t piece = 1; piece < pieces.count; ++piece) {
                         float* sum = scratch.partial;
                         const float* part = scratch.partial + piece * total;
#pragma omp simd
                         for (std::int64_t i = range.begin; i < range.end; ++i) sum[i] += part[i];
                     }
                 });
    const std::int64_t plain_elements = shape.weight_elements() / pieces.slices;
    parallel_for(context, pieces.slices, [&](std::int64_t slice, int worker) {
        const dnnl::reorder& unpack = args.accumulate_weight ? plan.unpack_add : plan.unpack;
        const auto& description =
            args.accumulate_weight ? plan.unpack_add_description : plan.unpack_description;
        dnnl::stream stream(plan.engine);
        unpack.execute(
            stream,
            {{DNNL_ARG_FROM, view(plan.weight, plan.engine, scratch.partial + slice * slice_elements)},
             {DNNL_ARG_TO,
              view(plan.layouts.plain_weight, plan.engine, args.grad_weight + slice * plain_elements)},
             {DNNL_ARG_SCRATCHPAD,
              view(description.scratchpad_desc(), plan.engine, scratch.scratchpad[worker])}});
        stream.wait();
    });
}

}  // namespace

void conv2d_forward(const Context& context, const Conv2dForward<float>& args) try {
    const Conv2dShape& shape = args.shape;
    Plans plans(context);
    const ForwardPlan& plan = forward_plan(plans, shape);
    const ForwardScratch scratch(context, plan, args);
    const void* weight = packed_weight(plan, args.weight, args.packed, scratch.packed);
    if (!args.bias) std::fill_n(scratch.zero_bias.get(), shape.out_channels, 0.0f);
    const float* bias = args.bias ? args.bias : scratch.zero_bias.get();

    const std::int64_t in_pixels = shape.height * shape.width;
    const std::int64_t pixels = shape.out_height() * shape.out_width();
    parallel_for(context, shape.batch, [&](std::int64_t n, int worker) {
        const float* x = dense_images(args.x, in_pixels, shape.batch, n, 1, scratch.x[worker]);
        const View<float> y = rows_of(args.y, n * pixels, pixels);
        const View<const float> residual =
            args.residual ? rows_of(args.residual, n * pixels, pixels) : View<const float>();
        float* dense = dense_or(y, residual, scratch.y[worker]);
        dnnl::stream stream(plan.engine);
        plan.primitive.execute(
            stream, {{DNNL_ARG_SRC, view(plan.layouts.x, plan.engine, x)},
                     {DNNL_ARG_WEIGHTS, view(plan.weight, plan.engine, weight)},
                     {DNNL_ARG_BIAS, view(plan.layouts.bias, plan.engine, bias)},
                     {DNNL_ARG_DST, view(plan.layouts.y, plan.engine, dense)},
                     {DNNL_ARG_SCRATCHPAD, view(plan.scratchpad, plan.engine, scratch.scratchpad[worker])}});
        stream.wait();
        finish_rows(dense, residual, y);
    });
} catch (const dnnl::error& error) {
    refuse("conv2d_forward", error);
}

void conv2d_backward_data(const Context& context, const Conv2dBackwardData<float>& args) try {
    const Conv2dShape& shape = args.shape;
    const std::int64_t pixels = shape.height * shape.width;
    Plans plans(context);
    const BackwardDataPlan& plan = backward_data_plan(plans, shape);
    const BackwardDataScratch scratch(context, plan, args);
    const void* weight = packed_weight(plan, args.weight, args.packed, scratch.packed);

    const std::int64_t out_pixels = shape.out_height() * shape.out_width();
    parallel_for(context, shape.batch, [&](std::int64_t n, int worker) {
        const float* grad_y =
            dense_images(args.grad_y, out_pixels, shape.batch, n, 1, scratch.grad_y[worker]);
        const View<float> grad_x = rows_of(args.grad_x, n * pixels, pixels);
        const View<const float> addend = args.accumulate ? grad_x : View<float>();
        float* dense = dense_or(grad_x, addend, scratch.grad_x[worker]);
        dnnl::stream stream(plan.engine);
        plan.primitive.execute(
            stream, {{DNNL_ARG_DIFF_DST, view(plan.layouts.y, plan.engine, grad_y)},
                     {DNNL_ARG_WEIGHTS, view(plan.weight, plan.engine, weight)},
                     {DNNL_ARG_DIFF_SRC, view(plan.layouts.x, plan.engine, dense)},
                     {DNNL_ARG_SCRATCHPAD, view(plan.scratchpad, plan.engine, scratch.scratchpad[worker])}});
        stream.wait();
        finish_rows(dense, addend, grad_x);
    });
} catch (const dnnl::error& error) {
    refuse("conv2d_backward_data", error);
}

void conv2d_backward_weights(const Context& context, const Conv2dBackwardWeights<float>& args) try {
    const Conv2dShape& shape = args.shape;
    if (args.grad_weight) {
        const WeightPieces pieces(shape);
        Plans plans(context);
        const BackwardWeightsPlan& plan =
            plans.get<BackwardWeightsPlan>("conv2d_backward_weights", pieces.piece_shape(shape));
        const BackwardWeightsScratch scratch(context, plan, shape, pieces);
        weight_gradient(context, args, pieces, plan, scratch);
    }
    if (args.grad_bias) {
        const ColumnSums sums(context, shape.batch * shape.out_height() * shape.out_width(),
                              shape.out_channels);
        sums.run(context, args.grad_y, args.grad_bias, args.accumulate_bias);
    }
} catch (const dnnl::error& error) {
    refuse("conv2d_backward_weights", error);
}

std::size_t conv2d_packed_bytes(const Context& context, const Conv2dShape& shape, Conv2dPass pass) try {
    Plans plans(context);
    return pass == Conv2dPass::forward ? packed_bytes(forward_plan(plans, shape))
                                       : packed_bytes(backward_data_plan(plans, shape));
} catch (const dnnl::error& error) {
    refuse("conv2d_packed_bytes", error);
}

void conv2d_pack(const Context& context, const Conv2dShape& shape, Conv2dPass pass, const float* weight,
                 void* packed) try {
    if (conv2d_packed_bytes(context, shape, pass) == 0) return;
    Plans plans(context);
    if (pass == Conv2dPass::forward)
        pack(forward_plan(plans, shape), weight, packed);
    else
        pack(backward_data_plan(plans, shape), weight, packed);
} catch (const dnnl::error& error) {
    refuse("conv2d_pack", error);
}

}  // namespace ito::kernels::cpu::onednn
