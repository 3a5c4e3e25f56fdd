// Loads and stores of the first `count` lanes of a vector that touch no byte beyond them.
//
// Include from inside a foreach_target file, after <hwy/highway.h>. Highway's own masked loads and stores
// touch the whole vector on targets without mask instructions.

#if defined(ITO_KERNELS_CPU_SIMD_LOAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ITO_KERNELS_CPU_SIMD_LOAD_INL_H_
#undef ITO_KERNELS_CPU_SIMD_LOAD_INL_H_
#else
#define ITO_KERNELS_CPU_SIMD_LOAD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace ito::kernels {
namespace HWY_NAMESPACE {

/// Lanes at and beyond `count` are 0.
template <class D, class T = hwy::HWY_NAMESPACE::TFromD<D>>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_n(D d, const T* from, std::size_t count) {
    namespace hn = hwy::HWY_NAMESPACE;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
    return hn::MaskedLoad(hn::FirstN(d, count), d, from);
#else
    HWY_ALIGN T lanes[hn::MaxLanes(D())] = {};
    std::memcpy(lanes, from, count * sizeof(T));
    return hn::Load(d, lanes);
#endif
}

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>, class T = hwy::HWY_NAMESPACE::TFromD<D>>
HWY_INLINE void store_n(V v, D d, T* to, std::size_t count) {
    namespace hn = hwy::HWY_NAMESPACE;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
    hn::BlendedStore(v, hn::FirstN(d, count), d, to);
#else
    HWY_ALIGN T lanes[hn::MaxLanes(D())];
    hn::Store(v, d, lanes);
    std::memcpy(to, lanes, count * sizeof(T));
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace ito::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
