// Plain loops over blocks, compiled for every instruction set: the compiler vectorises them, and without
// contraction every element gets the same bits wherever it lies. Dense matrices count as one long row.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise/elementwise_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/cpu/blocks.h"
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"

HWY_BEFORE_NAMESPACE();
namespace ito::kernels::HWY_NAMESPACE {

// "ivdep": y may be a or b themselves, but an element is never read after its own write.

template <class T>
void axpby_rows(const Axpby<T>& args, const Block& block) {
    using A = accum_t<T>;
    const A alpha = static_cast<A>(args.alpha) * (args.scale ? *args.scale : A(1));
    const A beta = static_cast<A>(args.beta);
    for (std::int64_t r = block.row_begin; r < block.row_end; ++r) {
        const T* a = args.a + r * args.a_stride;
        T* y = args.y + r * args.y_stride;
        if (args.b) {
            const T* b = args.b + r * args.b_stride;
#pragma GCC ivdep
            for (std::int64_t c = block.column_begin; c < block.column_end; ++c)
                y[c] = convert<T>(alpha * convert<A>(a[c]) + beta * convert<A>(b[c]));
        } else {
#pragma GCC ivdep
            for (std::int64_t c = block.column_begin; c < block.column_end; ++c)
                y[c] = convert<T>(alpha * convert<A>(a[c]));
        }
    }
}

template <class T>
void multiply_rows(const Multiply<T>& args, const Block& block) {
    using A = accum_t<T>;
    for (std::int64_t r = block.row_begin; r < block.row_end; ++r) {
        const T* a = args.a + r * args.a_stride;
        const T* b = args.b + r * args.b_stride;
        T* y = args.y + r * args.y_stride;
        if (args.accumulate) {
#pragma GCC ivdep
            for (std::int64_t c = block.column_begin; c < block.column_end; ++c)
                y[c] = convert<T>(convert<A>(y[c]) + convert<A>(a[c]) * convert<A>(b[c]));
        } else {
#pragma GCC ivdep
            for (std::int64_t c = block.column_begin; c < block.column_end; ++c)
                y[c] = convert<T>(convert<A>(a[c]) * convert<A>(b[c]));
        }
    }
}

template <class To, class From>
void copy_rows(const Copy& args, const Block& block) {
    for (std::int64_t r = block.row_begin; r < block.row_end; ++r) {
        const From* HWY_RESTRICT x = static_cast<const From*>(args.x) + r * args.x_stride;
        To* HWY_RESTRICT y = static_cast<To*>(args.y) + r * args.y_stride;
        for (std::int64_t c = block.column_begin; c < block.column_end; ++c) y[c] = convert<To>(x[c]);
    }
}

template <class To>
void copy_rows_to(const Copy& args, const Block& block) {
    switch (args.from) {
        case DType::float32:
            return copy_rows<To, float>(args, block);
        case DType::float64:
            return copy_rows<To, double>(args, block);
        case DType::bfloat16:
            return copy_rows<To, bfloat16>(args, block);
        case DType::uint8:
            return copy_rows<To, std::uint8_t>(args, block);
        case DType::int64:
            return copy_rows<To, std::int64_t>(args, block);
    }
}

template <class T>
void fill_rows(const Fill& args, const Block& block) {
    const T value = convert<T>(args.value);
    for (std::int64_t r = block.row_begin; r < block.row_end; ++r) {
        T* y = static_cast<T*>(args.y) + r * args.y_stride;
        for (std::int64_t c = block.column_begin; c < block.column_end; ++c) y[c] = value;
    }
}

void axpby_float(const Axpby<float>& args, const Block& block) {
    axpby_rows(args, block);
}
void axpby_bfloat16(const Axpby<bfloat16>& args, const Block& block) {
    axpby_rows(args, block);
}
void multiply_float(const Multiply<float>& args, const Block& block) {
    multiply_rows(args, block);
}
void multiply_bfloat16(const Multiply<bfloat16>& args, const Block& block) {
    multiply_rows(args, block);
}

void copy_block(const Copy& args, const Block& block) {
    switch (args.to) {
        case DType::float32:
            return copy_rows_to<float>(args, block);
        case DType::float64:
            return copy_rows_to<double>(args, block);
        case DType::bfloat16:
            return copy_rows_to<bfloat16>(args, block);
        case DType::uint8:
            return copy_rows<std::uint8_t, std::uint8_t>(args, block);
        case DType::int64:
            return copy_rows<std::int64_t, std::int64_t>(args, block);
    }
}

void fill_block(const Fill& args, const Block& block) {
    switch (args.type) {
        case DType::float32:
            return fill_rows<float>(args, block);
        case DType::float64:
            return fill_rows<double>(args, block);
        case DType::bfloat16:
            return fill_rows<bfloat16>(args, block);
        case DType::uint8:
            return fill_rows<std::uint8_t>(args, block);
        case DType::int64:
            return fill_rows<std::int64_t>(args, block);
    }
}

}  // namespace ito::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {
namespace {

HWY_EXPORT(axpby_float);
HWY_EXPORT(axpby_bfloat16);
HWY_EXPORT(multiply_float);
HWY_EXPORT(multiply_bfloat16);
HWY_EXPORT(copy_block);
HWY_EXPORT(fill_block);

/// The same matrices as one row where every row stride is the row's length.
template <class Args>
Args flattened(Args args, bool dense) {
    if (dense) {
        args.columns *= args.rows;
        args.rows = args.columns > 0 ? 1 : 0;
    }
    return args;
}

template <class T>
Axpby<T> flattened(const Axpby<T>& args) {
    const std::int64_t n = args.columns;
    return flattened(args, args.a_stride == n && (!args.b || args.b_stride == n) && args.y_stride == n);
}

template <class T>
Multiply<T> flattened(const Multiply<T>& args) {
    const std::int64_t n = args.columns;
    return flattened(args, args.a_stride == n && args.b_stride == n && args.y_stride == n);
}

/// Runs the function that was chosen for this processor on every block.
template <class Args>
void run(const Context& context, const Args& args, void (*function)(const Args&, const Block&)) {
    for_each_block(context, args.rows, args.columns, [&](const Block& block) { function(args, block); });
}

}  // namespace

namespace cpu {

void axpby(const Context& context, const Axpby<float>& args) {
    run(context, flattened(args), HWY_DYNAMIC_DISPATCH(axpby_float));
}
void axpby(const Context& context, const Axpby<double>& args) {
    ref::axpby(context, args);
}
void axpby(const Context& context, const Axpby<bfloat16>& args) {
    run(context, flattened(args), HWY_DYNAMIC_DISPATCH(axpby_bfloat16));
}

void multiply(const Context& context, const Multiply<float>& args) {
    run(context, flattened(args), HWY_DYNAMIC_DISPATCH(multiply_float));
}
void multiply(const Context& context, const Multiply<double>& args) {
    ref::multiply(context, args);
}
void multiply(const Context& context, const Multiply<bfloat16>& args) {
    run(context, flattened(args), HWY_DYNAMIC_DISPATCH(multiply_bfloat16));
}

void copy(const Context& context, const Copy& args) {
    check_conversion(args.from, args.to);
    const bool dense = args.x_stride == args.columns && args.y_stride == args.columns;
    run(context, flattened(args, dense), HWY_DYNAMIC_DISPATCH(copy_block));
}

void fill(const Context& context, const Fill& args) {
    run(context, flattened(args, args.y_stride == args.columns), HWY_DYNAMIC_DISPATCH(fill_block));
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
