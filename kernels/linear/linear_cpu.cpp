// float32 linear layer by oneDNN. Forward and backward-data multiply a fixed number of rows at a time by a
// primitive made for that number, the last rows padded with zeros, so that a row's bits depend neither on how
// many there are nor on its place among them (rows_of_product). oneDNN is fastest with weights [k, columns of the result]:
// backward-data has them so, forward transposes them first.

#include <algorithm>
#include <cstring>

#include "kernels/common/scratch.h"
#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/parallel.h"
#include "kernels/linear/linear.h"

namespace ito::kernels::cpu {
namespace {

using Layout = dnnl::memory::desc;

Layout matrix(std::int64_t rows, std::int64_t columns) {
    return Layout({rows, columns}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab);
}

/// Rows of one product. Few enough that a single row (a time embedding while sampling) does not cost many
/// times its work, enough (2 Mi multiplications where the layer is small) to hide the cost of a call. A multiple
/// of 24: oneDNN keeps blocks of 4, 6 or 8 rows in registers, by instruction set, and sums the rows that are left
/// over in another order (on AVX2 where a product has 1, 2 or 3 rows more than a multiple of 6).
std::int64_t rows_of_product(const LinearShape& shape) {
    const std::int64_t weights = std::max<std::int64_t>(shape.in_features * shape.out_features, 1);
    std::int64_t rows = 24;
    while (rows < 192 && rows * weights < (std::int64_t{1} << 21)) rows *= 2;
    return rows;
}

/// Products that one task of parallel_for runs: about 16 Mi multiplications.
std::int64_t rows_of_task(const LinearShape& shape) {
    const std::int64_t rows = rows_of_product(shape);
    const std::int64_t product = rows * std::max<std::int64_t>(shape.in_features * shape.out_features, 1);
    return rows * std::max<std::int64_t>((std::int64_t{1} << 24) / product, 1);
}

struct ProductKey {
    std::int64_t rows, in, out;
};

/// [rows, in] x [in, out], all dense.
struct ProductPlan {
    explicit ProductPlan(const ProductKey& key)
        : engine(cpu_engine()),
          x(matrix(key.rows, key.in)),
          weight(matrix(key.in, key.out)),
          y(matrix(key.rows, key.out)),
          description({x, weight, y}, user_scratchpad(), engine),
          primitive(description),
          scratchpad(description.scratchpad_desc()) {}

    dnnl::engine engine;
    Layout x, weight, y;
    dnnl::matmul::primitive_desc description;
    dnnl::matmul primitive;
    Layout scratchpad;
};

struct ProductScratch {
    ProductScratch(const Context& context, const ProductPlan& plan)
        : x(context, static_cast<std::int64_t>(plan.x.get_size() / sizeof(float))),
          y(context, static_cast<std::int64_t>(plan.y.get_size() / sizeof(float))),
          scratchpad(context, static_cast<std::int64_t>(plan.scratchpad.get_size())) {}

    PerWorker<float> x, y;
    PerWorker<std::byte> scratchpad;
};

/// y = x W (+ bias) (+ addend), any of the last two null; `addend` may be y itself.
struct Product {
    View<const float> x;
    const float* weight;  ///< [in, out]
    const float* bias;
    View<const float> addend;
    View<float> y;
};

void multiply(const ProductPlan& plan, const ProductScratch& scratch, const Product& args,
              const ProductKey& key, Range rows, int worker) {
    const std::int64_t present = rows.end - rows.begin;
    const float* x = args.x.row(rows.begin);
    if (args.x.stride != key.in || present < key.rows) {
        float* dense = scratch.x[worker];
        for (std::int64_t m = 0; m < present; ++m)
            std::memcpy(dense + m * key.in, args.x.row(rows.begin + m),
                        static_cast<std::size_t>(key.in) * sizeof(float));
        std::fill_n(dense + present * key.in, (key.rows - present) * key.in, 0.0f);
        x = dense;
    }
    const bool in_place = args.y.stride == key.out && present == key.rows && !args.bias && !args.addend;
    float* product = in_place ? args.y.row(rows.begin) : scratch.y[worker];
    dnnl::stream stream(plan.engine);
    plan.primitive.execute(
        stream, {{DNNL_ARG_SRC, view(plan.x, plan.engine, x)},
                 {DNNL_ARG_WEIGHTS, view(plan.weight, plan.engine, args.weight)},
                 {DNNL_ARG_DST, view(plan.y, plan.engine, product)},
                 {DNNL_ARG_SCRATCHPAD, view(plan.scratchpad, plan.engine, scratch.scratchpad[worker])}});
    stream.wait();
    if (in_place) return;
    for (std::int64_t m = 0; m < present; ++m) {
        const float* from = product + m * key.out;
        const float* addend = args.addend ? args.addend.row(rows.begin + m) : nullptr;
        float* to = args.y.row(rows.begin + m);
        if (args.bias && addend) {
#pragma omp simd
            for (std::int64_t n = 0; n < key.out; ++n) to[n] = from[n] + addend[n] + args.bias[n];
        } else if (args.bias || addend) {
            const float* term = addend ? addend : args.bias;
#pragma omp simd
            for (std::int64_t n = 0; n < key.out; ++n) to[n] = from[n] + term[n];
        } else {
            std::memcpy(to, from, static_cast<std::size_t>(key.out) * sizeof(float));
        }
    }
}

void multiply_all(const Context& context, const ProductPlan& plan, const ProductScratch& scratch,
                  const Product& args, const ProductKey& key, const LinearShape& shape) {
    const std::int64_t task_rows = rows_of_task(shape);
    parallel_for(context, ceil_div(shape.rows, task_rows), [&](std::int64_t task, int worker) {
        const Range range = piece_range(shape.rows, task_rows, task);
        for (std::int64_t begin = range.begin; begin < range.end; begin += key.rows)
            multiply(plan, scratch, args, key, {begin, std::min(begin + key.rows, range.end)}, worker);
    });
}

ProductKey forward_key(const LinearShape& shape) {
    return {rows_of_product(shape), shape.in_features, shape.out_features};
}
ProductKey backward_data_key(const LinearShape& shape) {
    return {rows_of_product(shape), shape.out_features, shape.in_features};
}

/// to[c, r] = from[r, c] for r in a range of rows.
void transpose(const float* from, Range rows, std::int64_t row_count, std::int64_t columns, float* to) {
    constexpr std::int64_t tile = 16;  // 16 floats are a cache line
    for (std::int64_t r0 = rows.begin; r0 < rows.end; r0 += tile)
        for (std::int64_t c = 0; c < columns; ++c)
            for (std::int64_t r = r0; r < std::min(r0 + tile, rows.end); ++r)
                to[c * row_count + r] = from[r * columns + c];
}

/// How a weight gradient is cut: slices of output features, which need no partial sums, and pieces of rows.
struct WeightPieces {
    static constexpr std::int64_t wanted_tasks = 16, slice = 64, piece_rows = 1024;

    explicit WeightPieces(const LinearShape& shape)
        : slices(ceil_div(shape.out_features, slice)),
          count(std::clamp<std::int64_t>(ceil_div(wanted_tasks, std::max<std::int64_t>(slices, 1)), 1,
                                         std::max<std::int64_t>(ceil_div(shape.rows, piece_rows), 1))),
          rows(std::max<std::int64_t>(ceil_div(shape.rows, count), 1)) {
        count = std::max<std::int64_t>(ceil_div(shape.rows, rows), 1);
    }

    std::int64_t slices, count, rows;
};

/// grad[n, k] = beta * grad[n, k] + sum over rows of grad_y[m, n] * x[m, k] for a slice of n.
void weight_product(const LinearBackwardWeights<float>& args, Range rows, Range features, float beta,
                    float* grad) {
    const std::int64_t in = args.shape.in_features;
    const auto status =
        dnnl_sgemm('T', 'N', features.end - features.begin, in, rows.end - rows.begin, 1.0f,
                   &args.grad_y(rows.begin, features.begin), args.grad_y.stride, args.x.row(rows.begin),
                   args.x.stride, beta, grad + features.begin * in, in);
    dnnl::error::wrap_c_api(status, "linear_backward_weights: the matrix product failed");
}

/// Whether there is nothing to multiply: the plain loops then do the little that is left.
bool empty(const LinearShape& shape) {
    return shape.rows <= 0 || shape.in_features <= 0 || shape.out_features <= 0;
}

}  // namespace

void linear_forward(const Context& context, const LinearForward<float>& args) try {
    const LinearShape& shape = args.shape;
    if (empty(shape)) return ref::linear_forward(context, args);
    const ProductKey key = forward_key(shape);
    Plans plans(context);
    const ProductPlan& plan = plans.get<ProductPlan>("linear", key);
    const Scratch<float> transposed(context, key.in * key.out);
    const ProductScratch scratch(context, plan);
    constexpr std::int64_t piece = 64;
    parallel_for(context, ceil_div(key.out, piece), [&](std::int64_t index, int) {
        transpose(args.weight, piece_range(key.out, piece, index), key.out, key.in, transposed);
    });
    multiply_all(context, plan, scratch, {args.x, transposed, args.bias, args.residual, args.y}, key, shape);
} catch (const dnnl::error& error) {
    refuse("linear_forward", error);
}

void linear_backward_data(const Context& context, const LinearBackwardData<float>& args) try {
    const LinearShape& shape = args.shape;
    if (empty(shape)) return ref::linear_backward_data(context, args);
    const ProductKey key = backward_data_key(shape);
    Plans plans(context);
    const ProductPlan& plan = plans.get<ProductPlan>("linear", key);
    const ProductScratch scratch(context, plan);
    const View<const float> addend = args.accumulate ? args.grad_x : View<float>();
    multiply_all(context, plan, scratch, {args.grad_y, args.weight, nullptr, addend, args.grad_x}, key,
                 shape);
} catch (const dnnl::error& error) {
    refuse("linear_backward_data", error);
}

void linear_backward_weights(const Context& context, const LinearBackwardWeights<float>& args) try {
    const LinearShape& shape = args.shape;
    if (empty(shape)) return ref::linear_backward_weights(context, args);
    if (args.grad_weight) {
        const std::int64_t elements = shape.in_features * shape.out_features;
        const WeightPieces pieces(shape);
        const float beta = args.accumulate_weight ? 1.0f : 0.0f;
        const Scratch<float> partial(context, pieces.count > 1 ? pieces.count * elements : 0);
        parallel_for(context, pieces.count * pieces.slices, [&](std::int64_t task, int) {
            const std::int64_t index = task / pieces.slices;
            const Range rows = piece_range(shape.rows, pieces.rows, index);
            const Range features = piece_range(shape.out_features, WeightPieces::slice, task % pieces.slices);
            if (pieces.count == 1)
                weight_product(args, rows, features, beta, args.grad_weight);
            else
                weight_product(args, rows, features, 0.0f, partial + index * elements);
        });
        parallel_for(context, pieces.count > 1 ? ceil_div(elements, elementwise_piece) : 0,
                     [&](std::int64_t index, int) {
                         const Range range = piece_range(elements, elementwise_piece, index);
                         for (std::int64_t piece = 0; piece < pieces.count; ++piece) {
                             const float* part = partial + piece * elements;
                             const bool overwrite = piece == 0 && !args.accumulate_weight;
#pragma omp simd
                             for (std::int64_t i = range.begin; i < range.end; ++i)
                                 args.grad_weight[i] = overwrite ? part[i] : args.grad_weight[i] + part[i];
                         }
                     });
    }
    if (args.grad_bias) {
        const ColumnSums sums(context, shape.rows, shape.out_features);
        sums.run(context, args.grad_y, args.grad_bias, args.accumulate_bias);
    }
} catch (const dnnl::error& error) {
    refuse("linear_backward_weights", error);
}

}  // namespace ito::kernels::cpu
