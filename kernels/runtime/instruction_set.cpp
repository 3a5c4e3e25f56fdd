#include "kernels/runtime/instruction_set.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/runtime/instruction_set.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {

/// Compiled once per instruction set, and chosen as every kernel is.
const char* target_name() {
    return hwy::TargetName(HWY_TARGET);
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ito::kernels {

HWY_EXPORT(target_name);

std::string instruction_set() {
    return HWY_DYNAMIC_DISPATCH(target_name)();
}

std::vector<std::string> compiled_instruction_sets() {
    // Highway numbers better targets lower.
    std::vector<std::string> names;
    for (std::int64_t rest = HWY_TARGETS; rest != 0; rest &= rest - 1)
        names.emplace_back(hwy::TargetName(rest & -rest));
    return names;
}

}  // namespace ito::kernels
#endif
