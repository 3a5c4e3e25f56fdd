#include "kernels/reduce/reduce.h"

namespace ito::kernels::ref {
namespace {

template <class T, class Term>
void add_up(const Reduce<T>& args, Term term) {
    double total = 0;
    for (std::int64_t r = 0; r < args.rows; ++r)
        for (std::int64_t c = 0; c < args.columns; ++c)
            total += term(static_cast<double>(args.x[r * args.x_stride + c]));
    *args.out = args.factor * total;
}

}  // namespace

template <CpuFloat T>
void sum(const Context&, const Reduce<T>& args) {
    add_up(args, [](double x) { return x; });
}

template <CpuFloat T>
void sum_squares(const Context&, const Reduce<T>& args) {
    add_up(args, [](double x) { return x * x; });
}

template void sum(const Context&, const Reduce<float>&);
template void sum(const Context&, const Reduce<double>&);
template void sum_squares(const Context&, const Reduce<float>&);
template void sum_squares(const Context&, const Reduce<double>&);

}  // namespace ito::kernels::ref
