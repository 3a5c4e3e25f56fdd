// Plain loops over parts of rows, compiled for every instruction set: the compiler vectorises them, and without
// contraction every element gets the same bits wherever it lies.

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

template <class T, class A = accum_t<T>>
void axpby_run(A alpha, const T* a, A beta, const T* b, T* y, std::int64_t count) {
    if (b) {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < count; ++i)
            y[i] = convert<T>(alpha * convert<A>(a[i]) + beta * convert<A>(b[i]));
    } else {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < count; ++i) y[i] = convert<T>(alpha * convert<A>(a[i]));
    }
}

template <class T>
void axpby_rows(const Context& context, const Axpby<T>& args) {
    using A = accum_t<T>;
    const A alpha = static_cast<A>(args.alpha) * (args.scale ? *args.scale : A(1));
    const A beta = static_cast<A>(args.beta);
    const bool dense = args.a.dense() && args.b.dense() && args.y.dense();
    for_each_run(
        context, args.y.rows, args.y.columns, dense, [&](std::int64_t r, std::int64_t c, std::int64_t count) {
            axpby_run(alpha, &args.a(r, c), beta, args.b ? &args.b(r, c) : nullptr, &args.y(r, c), count);
        });
}
void axpby_float(const Context& context, const Axpby<float>& args) {
    axpby_rows(context, args);
}
void axpby_bfloat16(const Context& context, const Axpby<bfloat16>& args) {
    axpby_rows(context, args);
}

template <class T, class A = accum_t<T>>
void multiply_run(const T* a, const T* b, T* y, std::int64_t count, bool accumulate) {
    if (accumulate) {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < count; ++i)
            y[i] = convert<T>(convert<A>(y[i]) + convert<A>(a[i]) * convert<A>(b[i]));
    } else {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < count; ++i) y[i] = convert<T>(convert<A>(a[i]) * convert<A>(b[i]));
    }
}

template <class T>
void multiply_rows(const Context& context, const Multiply<T>& args) {
    const bool dense = args.a.dense() && args.b.dense() && args.y.dense();
    for_each_run(context, args.y.rows, args.y.columns, dense,
                 [&](std::int64_t r, std::int64_t c, std::int64_t count) {
                     multiply_run(&args.a(r, c), &args.b(r, c), &args.y(r, c), count, args.accumulate);
                 });
}
void multiply_float(const Context& context, const Multiply<float>& args) {
    multiply_rows(context, args);
}
void multiply_bfloat16(const Context& context, const Multiply<bfloat16>& args) {
    multiply_rows(context, args);
}

template <class To, class From>
void copy_run(const From* HWY_RESTRICT x, To* HWY_RESTRICT y, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = convert<To>(x[i]);
}

void copy_rows(const Context& context, const Copy& args) {
    with_conversion(args.x.type, args.y.type, [&]<class From, class To>() {
        const auto x = args.x.as<From>();
        const auto y = args.y.as<To>();
        for_each_run(
            context, y.rows, y.columns, x.dense() && y.dense(),
            [&](std::int64_t r, std::int64_t c, std::int64_t count) { copy_run(&x(r, c), &y(r, c), count); });
    });
}

template <class T>
void fill_run(T value, T* y, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = value;
}

void fill_rows(const Context& context, const Fill& args) {
    with_type(args.y.type, [&]<class T>() {
        const auto y = args.y.as<T>();
        for_each_run(context, y.rows, y.columns, y.dense(),
                     [&](std::int64_t r, std::int64_t c, std::int64_t count) {
                         fill_run(convert<T>(args.value), &y(r, c), count);
                     });
    });
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
HWY_EXPORT(copy_rows);
HWY_EXPORT(fill_rows);
}  // namespace

namespace cpu {

void axpby(const Context& context, const Axpby<float>& args) {
    HWY_DYNAMIC_DISPATCH(axpby_float)(context, args);
}
void axpby(const Context& context, const Axpby<bfloat16>& args) {
    HWY_DYNAMIC_DISPATCH(axpby_bfloat16)(context, args);
}
void multiply(const Context& context, const Multiply<float>& args) {
    HWY_DYNAMIC_DISPATCH(multiply_float)(context, args);
}
void multiply(const Context& context, const Multiply<bfloat16>& args) {
    HWY_DYNAMIC_DISPATCH(multiply_bfloat16)(context, args);
}
void copy(const Context& context, const Copy& args) {
    HWY_DYNAMIC_DISPATCH(copy_rows)(context, args);
}
void fill(const Context& context, const Fill& args) {
    HWY_DYNAMIC_DISPATCH(fill_rows)(context, args);
}

}  // namespace cpu
}  // namespace ito::kernels
#endif
