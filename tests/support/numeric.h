#pragma once
// What numeric tests share: inputs that are hard to get right (non-zero mean, strided, surrounded by guards),
// poisoned outputs, and the two errors that every kernel is held to.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "kernels/common/dtype.h"
#include "kernels/common/view.h"

namespace ito::testing {

/// static_cast, also to and from bfloat16.
template <class To, class From>
To convert(From value) {
    if constexpr (std::is_same_v<From, bfloat16>) {
        return static_cast<To>(static_cast<float>(value));
    } else if constexpr (std::is_same_v<To, bfloat16>) {
        return bfloat16(static_cast<float>(value));
    } else {
        return static_cast<To>(value);
    }
}

/// A [rows, columns] matrix with a stride inside a buffer whose every other element is NaN. Reading a gap or
/// running over an edge makes a NaN or trips `gaps_untouched`.
template <class T>
class Strided {
  public:
    static constexpr std::int64_t guard = 64;

    Strided(std::int64_t rows, std::int64_t columns, std::int64_t stride)
        : rows_(rows),
          columns_(columns),
          stride_(stride),
          storage_(static_cast<std::size_t>(2 * guard + rows * stride), poison()) {}

    static T poison() { return convert<T>(std::numeric_limits<float>::quiet_NaN()); }

    /// Normal values around `mean`: a non-zero mean shows cancellation.
    Strided& fill_normal(std::uint64_t seed, double mean = 0.7, double stddev = 1.3) {
        std::mt19937_64 engine(seed);
        std::normal_distribution<double> normal(mean, stddev);
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t c = 0; c < columns_; ++c) at(r, c) = convert<T>(normal(engine));
        return *this;
    }

    /// The same values in another type (for the float64 oracle), dense or with this row stride.
    template <class U>
    Strided<U> as(std::int64_t stride = 0) const {
        Strided<U> copy(rows_, columns_, stride ? stride : stride_);
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t c = 0; c < columns_; ++c) copy.at(r, c) = convert<U>(at(r, c));
        return copy;
    }

    T* data() { return storage_.data() + guard; }
    const T* data() const { return storage_.data() + guard; }
    T& at(std::int64_t r, std::int64_t c) { return data()[r * stride_ + c]; }
    const T& at(std::int64_t r, std::int64_t c) const { return data()[r * stride_ + c]; }
    std::int64_t rows() const { return rows_; }
    std::int64_t columns() const { return columns_; }
    std::int64_t stride() const { return stride_; }
    kernels::View<T> view() { return {data(), rows_, columns_, stride_}; }
    kernels::View<const T> view() const { return {data(), rows_, columns_, stride_}; }

    /// True if nothing outside the matrix (gaps between rows, guards) was written.
    bool gaps_untouched() const {
        for (std::int64_t i = -guard; i < rows_ * stride_ + guard; ++i) {
            const bool inside = i >= 0 && i < rows_ * stride_ && i % stride_ < columns_;
            if (!inside && !std::isnan(convert<double>(data()[i]))) return false;
        }
        return true;
    }

  private:
    std::int64_t rows_, columns_, stride_;
    std::vector<T> storage_;
};

/// ||a - b|| / ||b||, b the oracle. NaN in either makes it NaN (which fails every comparison).
template <class A, class B>
double relative_l2(const Strided<A>& a, const Strided<B>& b) {
    double difference = 0, norm = 0;
    for (std::int64_t r = 0; r < b.rows(); ++r)
        for (std::int64_t c = 0; c < b.columns(); ++c) {
            const double x = convert<double>(a.at(r, c)), y = convert<double>(b.at(r, c));
            difference += (x - y) * (x - y);
            norm += y * y;
        }
    return std::sqrt(difference / std::max(norm, 1e-300));
}

/// Largest |a - b| over the root mean square of b.
template <class A, class B>
double worst_error(const Strided<A>& a, const Strided<B>& b) {
    if (b.rows() * b.columns() == 0) return 0;
    double worst = 0, norm = 0;
    for (std::int64_t r = 0; r < b.rows(); ++r)
        for (std::int64_t c = 0; c < b.columns(); ++c) {
            const double x = convert<double>(a.at(r, c)), y = convert<double>(b.at(r, c));
            if (std::isnan(x) || std::isnan(y)) return std::numeric_limits<double>::quiet_NaN();
            worst = std::max(worst, std::abs(x - y));
            norm += y * y;
        }
    return worst / std::sqrt(std::max(norm / static_cast<double>(b.rows() * b.columns()), 1e-300));
}

/// Holds `a` against the oracle `b`: relative L2 within `l2`, worst element within `worst`, no gap written.
template <class A, class B>
void expect_close(const Strided<A>& a, const Strided<B>& b, double l2, double worst) {
    EXPECT_LE(relative_l2(a, b), l2);
    EXPECT_LE(worst_error(a, b), worst);
    EXPECT_TRUE(a.gaps_untouched()) << "wrote outside its rows";
}

/// bfloat16: nearly all elements are the exact result rounded to nearest; the few others lie where float32's own rounding
/// crosses a tie. Tolerances do not tell that from truncation, which biases every step of a training.
template <class T>
void expect_rounded(const Strided<T>& got, const Strided<double>& exact) {
    if constexpr (std::is_same_v<T, bfloat16>) {
        std::int64_t others = 0;
        for (std::int64_t r = 0; r < got.rows(); ++r)
            for (std::int64_t c = 0; c < got.columns(); ++c)
                others += got.at(r, c).bits != bfloat16(static_cast<float>(exact.at(r, c))).bits;
        EXPECT_LE(others, got.rows() * got.columns() / 50 + 1);
    }
}

/// The same bits, and no NaN: an element that neither side wrote is not equal.
template <class T>
bool bitwise_equal(const Strided<T>& a, const Strided<T>& b) {
    for (std::int64_t r = 0; r < b.rows(); ++r)
        for (std::int64_t c = 0; c < b.columns(); ++c) {
            const double x = convert<double>(a.at(r, c)), y = convert<double>(b.at(r, c));
            if (x != y || std::signbit(x) != std::signbit(y)) return false;
        }
    return true;
}

}  // namespace ito::testing
