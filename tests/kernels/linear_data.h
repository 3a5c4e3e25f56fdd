#pragma once

#include <ostream>

#include "kernels/linear/linear.h"
#include "tests/kernels/layer_data.h"

namespace ito::kernels {

inline void PrintTo(const LinearShape& s, std::ostream* out) {
    *out << s.rows << " rows, " << s.in_features << " -> " << s.out_features;
}

namespace linear_test {

struct LinearKernels {
    using Shape = LinearShape;
    static layer_test::Sizes sizes(const Shape& s) {
        return {s.rows, s.in_features, s.rows, s.out_features, s.in_features};
    }
    ITO_TEST_LAUNCHERS(Forward, linear_forward, LinearForward)
    ITO_TEST_LAUNCHERS(BackwardData, linear_backward_data, LinearBackwardData)
    ITO_TEST_LAUNCHERS(BackwardWeights, linear_backward_weights, LinearBackwardWeights)
};
template <class T>
using Case = layer_test::Case<LinearKernels, T>;

}  // namespace linear_test
}  // namespace ito::kernels
