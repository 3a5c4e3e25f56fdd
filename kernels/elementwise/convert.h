#pragma once
// Conversion of one element, and the choice of a function by two run-time element types.

#include <concepts>
#include <string>

#include "kernels/common/dtype.h"
#include "kernels/common/error.h"

namespace ito::kernels {

/// Conversions from and to bfloat16 go through float32.
template <class To, class From>
To convert(From value) {
    if constexpr (std::same_as<To, From>) {
        return value;
    } else if constexpr (std::same_as<From, bfloat16>) {
        return static_cast<To>(static_cast<float>(value));
    } else if constexpr (std::same_as<To, bfloat16>) {
        return bfloat16(static_cast<float>(value));
    } else {
        return static_cast<To>(value);
    }
}

/// Calls f.template operator()<T>() with the element type.
template <class F>
void with_type(DType type, F&& f) {
    switch (type) {
        case DType::float32:
            return f.template operator()<float>();
        case DType::float64:
            return f.template operator()<double>();
        case DType::bfloat16:
            return f.template operator()<bfloat16>();
        case DType::uint8:
            return f.template operator()<std::uint8_t>();
        case DType::int64:
            return f.template operator()<std::int64_t>();
    }
}

/// Calls f.template operator()<From, To>(). Throws Error unless `copy` can convert between the two.
template <class F>
void with_conversion(DType from, DType to, F&& f) {
    with_type(from, [&]<class From>() {
        with_type(to, [&]<class To>() {
            if constexpr (std::same_as<From, To> || !std::integral<To>)
                f.template operator()<From, To>();
            else
                throw Error(std::string("copy: cannot convert ") + name_of(from) + " to " + name_of(to) +
                            "; the target must be float32, float64 or bfloat16");
        });
    });
}

}  // namespace ito::kernels
