// Arithmetic with directed rounding. The host's rounding mode is changed around one operation; volatile keeps the
// compiler from moving or folding it.
#include <cfenv>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "tools/vgpu/device/convert.h"
#include "tools/vgpu/device/floating.h"

namespace vgpu::device {

const bool worst_approximation = [] {
    const char* const wanted = std::getenv("VGPU_APPROXIMATE");
    return wanted != nullptr && std::string_view(wanted) == "worst";
}();

namespace {

class RoundingMode {
  public:
    explicit RoundingMode(unsigned mode) : before_(std::fegetround()) {
        std::fesetround(mode == RZ   ? FE_TOWARDZERO
                        : mode == RM ? FE_DOWNWARD
                        : mode == RP ? FE_UPWARD
                                     : FE_TONEAREST);
    }
    ~RoundingMode() { std::fesetround(before_); }
    RoundingMode(const RoundingMode&) = delete;
    RoundingMode& operator=(const RoundingMode&) = delete;

  private:
    int before_;
};

template <class T>
T compute(int operation, unsigned mode, T a, T b, T c) {
    const volatile T x = a;
    const volatile T y = b;
    const volatile T z = c;
    const RoundingMode scope(mode);
    volatile T r = 0;
    switch (operation) {
        case 0:
            r = x + y;
            break;
        case 1:
            r = x * y;
            break;
        case 2:
            r = std::fma(static_cast<T>(x), static_cast<T>(y), static_cast<T>(z));
            break;
        case 3:
            r = x / y;
            break;
        default:
            r = std::sqrt(static_cast<T>(x));
            break;
    }
    return r;
}

}  // namespace

F32 rounded(int operation, unsigned mode, F32 a, F32 b, F32 c) {
    return quiet(compute(operation, mode, a, b, c));
}
F64 rounded(int operation, unsigned mode, F64 a, F64 b, F64 c) {
    return quiet(compute(operation, mode, a, b, c));
}
F32 round_to_float(F64 value, unsigned mode) {
    const volatile F64 v = value;
    const RoundingMode scope(mode);
    const volatile F32 r = static_cast<F32>(v);
    return r;
}

}  // namespace vgpu::device
