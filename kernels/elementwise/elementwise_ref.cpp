#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"

namespace ito::kernels::ref {

template <class T>
void axpby(const Context&, const Axpby<T>& args) {
    using A = accum_t<T>;
    const A alpha = static_cast<A>(args.alpha) * (args.scale ? *args.scale : A(1));
    const A beta = static_cast<A>(args.beta);
    for (std::int64_t r = 0; r < args.rows; ++r)
        for (std::int64_t c = 0; c < args.columns; ++c) {
            A sum = alpha * convert<A>(args.a[r * args.a_stride + c]);
            if (args.b) sum += beta * convert<A>(args.b[r * args.b_stride + c]);
            args.y[r * args.y_stride + c] = convert<T>(sum);
        }
}

template <class T>
void multiply(const Context&, const Multiply<T>& args) {
    using A = accum_t<T>;
    for (std::int64_t r = 0; r < args.rows; ++r)
        for (std::int64_t c = 0; c < args.columns; ++c) {
            T& y = args.y[r * args.y_stride + c];
            const A product =
                convert<A>(args.a[r * args.a_stride + c]) * convert<A>(args.b[r * args.b_stride + c]);
            y = convert<T>(args.accumulate ? convert<A>(y) + product : product);
        }
}

void copy(const Context&, const Copy& args) {
    check_conversion(args.from, args.to);
    with_type(args.from, [&]<class From>(std::type_identity<From>) {
        with_type(args.to, [&]<class To>(std::type_identity<To>) {
            for (std::int64_t r = 0; r < args.rows; ++r)
                for (std::int64_t c = 0; c < args.columns; ++c)
                    static_cast<To*>(args.y)[r * args.y_stride + c] =
                        convert<To>(static_cast<const From*>(args.x)[r * args.x_stride + c]);
        });
    });
}

void fill(const Context&, const Fill& args) {
    with_type(args.type, [&]<class T>(std::type_identity<T>) {
        for (std::int64_t r = 0; r < args.rows; ++r)
            for (std::int64_t c = 0; c < args.columns; ++c)
                static_cast<T*>(args.y)[r * args.y_stride + c] = convert<T>(args.value);
    });
}

template void axpby(const Context&, const Axpby<float>&);
template void axpby(const Context&, const Axpby<double>&);
template void axpby(const Context&, const Axpby<bfloat16>&);
template void multiply(const Context&, const Multiply<float>&);
template void multiply(const Context&, const Multiply<double>&);
template void multiply(const Context&, const Multiply<bfloat16>&);

}  // namespace ito::kernels::ref
