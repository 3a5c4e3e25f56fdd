#include "kernels/cpu/instruction_set.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/instruction_set.cpp"
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

#include <cstdlib>
#include <dnnl.hpp>

namespace ito::kernels {

HWY_EXPORT(target_name);

namespace {

std::string follow_limit(const std::string& name) {
    if (name.empty()) return "";
    if (name != "avx2" && name != "portable") return name;
    const std::int64_t best = name == "avx2" ? HWY_AVX2 : HWY_STATIC_TARGET;
    hwy::DisableTargets(best - 1);  // Highway numbers better targets lower
    dnnl::set_max_cpu_isa(name == "avx2" ? dnnl::cpu_isa::avx2 : dnnl::cpu_isa::sse41);
    return "";
}

}  // namespace

const std::string& limit_instruction_set() {
    static const std::string unknown = [] {
        const char* name = std::getenv("ITO_CPU");
        return follow_limit(name ? name : "");
    }();
    return unknown;
}

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
