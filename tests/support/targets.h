#pragma once
// Runs a test once per instruction set that the kernels were built for and this processor has, so that the
// AVX2 and the baseline code paths are tested on an AVX-512 machine too.

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdint>

namespace ito::testing {

template <class Body>
void for_each_target(Body&& body) {
    const std::int64_t supported = hwy::SupportedTargets();
    for (const std::int64_t target :
         {std::int64_t{HWY_AVX3}, std::int64_t{HWY_AVX2}, std::int64_t{HWY_STATIC_TARGET}}) {
        if ((supported & target) == 0 && target != HWY_STATIC_TARGET) continue;
        SCOPED_TRACE(hwy::TargetName(target));
        hwy::GetChosenTarget().Update(target);
        body();
    }
    hwy::GetChosenTarget().Update(supported);
}

}  // namespace ito::testing
