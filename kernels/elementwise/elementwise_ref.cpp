#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"

namespace ito::kernels::ref {

template <class T>
void axpby(const Context&, const Axpby<T>& args) {
    using A = accum_t<T>;
    const A alpha = static_cast<A>(args.alpha) * (args.scale ? *args.scale : A(1));
    const A beta = static_cast<A>(args.beta);
    for (std::int64_t r = 0; r < args.y.rows; ++r)
        for (std::int64_t c = 0; c < args.y.columns; ++c) {
            A sum = alpha * convert<A>(args.a(r, c));
            if (args.b) sum += beta * convert<A>(args.b(r, c));
            args.y(r, c) = convert<T>(sum);
        }
}

template <class T>
void multiply(const Context&, const Multiply<T>& args) {
    using A = accum_t<T>;
    for (std::int64_t r = 0; r < args.y.rows; ++r)
        for (std::int64_t c = 0; c < args.y.columns; ++c) {
            T& y = args.y(r, c);
            const A product = convert<A>(args.a(r, c)) * convert<A>(args.b(r, c));
            y = convert<T>(args.accumulate ? convert<A>(y) + product : product);
        }
}

void copy(const Context&, const Copy& args) {
    with_conversion(args.x.type, args.y.type, [&]<class From, class To>() {
        const auto x = args.x.as<From>();
        const auto y = args.y.as<To>();
        for (std::int64_t r = 0; r < y.rows; ++r)
            for (std::int64_t c = 0; c < y.columns; ++c) y(r, c) = convert<To>(x(r, c));
    });
}

void fill(const Context&, const Fill& args) {
    with_type(args.y.type, [&]<class T>() {
        const auto y = args.y.as<T>();
        for (std::int64_t r = 0; r < y.rows; ++r)
            for (std::int64_t c = 0; c < y.columns; ++c) y(r, c) = convert<T>(args.value);
    });
}

ITO_FOR_CPU_TYPES(axpby, Axpby);
template void axpby(const Context&, const Axpby<bfloat16>&);
ITO_FOR_CPU_TYPES(multiply, Multiply);
template void multiply(const Context&, const Multiply<bfloat16>&);

}  // namespace ito::kernels::ref
