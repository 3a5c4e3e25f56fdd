#pragma once
// Inputs of attention with given scores, for the tests of the CUDA kernels.

#include "tests/kernels/attention_data.h"

namespace ito::kernels::attention_test {

/// Scores that are the same number for all channels: token j has the score `of(j)` with every query, exactly.
template <class T, class Of>
Data<T> with_scores(std::int64_t tokens, Of&& of) {
    Data<T> data(Case{1, tokens, 1, 64, 0});
    data.fill();
    for (std::int64_t j = 0; j < tokens; ++j)
        for (std::int64_t c = 0; c < 64; ++c) {
            data.qkv.at(j, c) = convert<T>(c == 0 ? 8.0f : 0.0f);  // times the scale, 1/8
            data.qkv.at(j, 64 + c) = convert<T>(c == 0 ? static_cast<float>(of(j)) : 1.0f);
        }
    return data;
}

}  // namespace ito::kernels::attention_test
