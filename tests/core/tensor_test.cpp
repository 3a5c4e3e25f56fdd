#include "core/tensor.h"
#include "core/context.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "core/autograd/node.h"
#include "core/ops/elementwise.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using testing::expect_error;
using testing::values_of;

/// 0, 1, 2, ... in row-major order.
Tensor counting(const Shape& shape, DType type = DType::float32) {
    std::vector<double> values(static_cast<std::size_t>(numel(shape)));
    std::iota(values.begin(), values.end(), 0.0);
    return Tensor::from(values, shape).to(type);
}

TEST(Tensor, KnowsItsShape) {
    const Tensor x = Tensor::zeros({2, 3, 4});
    EXPECT_EQ(x.shape(), (Shape{2, 3, 4}));
    EXPECT_EQ(x.strides(), (Shape{12, 4, 1}));
    EXPECT_EQ(x.rank(), 3);
    EXPECT_EQ(x.numel(), 24);
    EXPECT_EQ(x.dim(-1), 4);
    EXPECT_EQ(x.dim(0), 2);
    EXPECT_EQ(x.dtype(), DType::float32);
    EXPECT_TRUE(x.is_contiguous());
    EXPECT_EQ(x.rows().rows, 6);
    EXPECT_EQ(x.rows().columns, 4);
    EXPECT_TRUE(x.rows().dense());
    expect_error([&] { x.dim(3); }, {"no dimension 3", "[2, 3, 4]"});
    expect_error([&] { x.dim(-4); }, {"no dimension -4"});
}

TEST(Tensor, UndefinedOneSaysSo) {
    const Tensor none;
    EXPECT_FALSE(none);
    EXPECT_FALSE(none.requires_grad());
    expect_error([&] { none.shape(); }, {"before it was given a value"});
}

TEST(Tensor, ScalarsAndEmptyTensors) {
    const Tensor scalar = Tensor::full({}, 2.5);
    EXPECT_EQ(scalar.numel(), 1);
    EXPECT_EQ(scalar.item(), 2.5);
    EXPECT_EQ(scalar.rows().rows, 1);
    const Tensor empty = Tensor::zeros({0, 3});
    EXPECT_EQ(empty.numel(), 0);
    EXPECT_EQ(empty.rows().rows, 0);
    EXPECT_TRUE(empty.clone().to_vector<float>().empty());
    EXPECT_EQ(empty.view({3, 0, 2}).shape(), (Shape{3, 0, 2}));
    expect_error([] { Tensor::empty({2, -1}); }, {"negative size", "[2, -1]"});
    const auto huge = std::int64_t{1} << 40;
    expect_error([&] { Tensor::empty({huge, huge}); }, {"elements"});
}

TEST(Tensor, ViewsShareMemory) {
    const Tensor x = counting({2, 6});
    const Tensor y = x.view({3, 4});
    EXPECT_TRUE(x.same_memory(y));
    y.slice(0, 2, 1).fill_(-1);
    EXPECT_EQ(values_of(x), (std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, -1, -1, -1, -1}));
    expect_error([&] { x.view({5, 2}); }, {"[2, 6]", "12 elements", "[5, 2]", "10"});
}

TEST(Tensor, RefusesMoreBytesThanCanBeCounted) {
    // 2^64 bytes, which wrap around to 0 in 64 bits.
    const Shape shape{std::int64_t{1} << 30, std::int64_t{1} << 31};
    expect_error([&] { Tensor::empty(shape, DType::float64); },
                 {"more bytes than can be counted", "float64"});
}

TEST(Tensor, SlicesOfChannelsKeepARowStride) {
    const Tensor x = counting({2, 2, 3, 4});
    const Tensor s = x.slice(-1, 1, 2);
    EXPECT_FALSE(s.is_contiguous());
    EXPECT_EQ(s.rows().rows, 12);
    EXPECT_EQ(s.rows().columns, 2);
    EXPECT_EQ(s.rows().stride, 4);
    EXPECT_FALSE(s.rows().dense());
    const Tensor tokens = s.view({2, 6, 2});
    EXPECT_EQ(tokens.rows().stride, 4);
    EXPECT_EQ(values_of(tokens), values_of(s));
    EXPECT_EQ(values_of(s.slice(0, 1, 1)),
              (std::vector<double>{25, 26, 29, 30, 33, 34, 37, 38, 41, 42, 45, 46}));
    EXPECT_EQ(values_of(s.view({2, 1, 2, 3, 1, 2})), values_of(s));
    expect_error([&] { s.view({2, 12}); }, {"without a copy", "call contiguous()"});
    expect_error([&] { x.slice(1, 1, 2); }, {"slice [1, 1 + 2)", "[2, 2, 3, 4]"});
    expect_error([&] { x.slice(1, -1, 1); }, {"slice [-1, -1 + 1)"});
    expect_error([&] { x.slice(4, 0, 1); }, {"no dimension 4"});
}

TEST(Tensor, SlicesOfEveryDimensionCopyRight) {
    const Tensor x = counting({3, 4, 5, 6});
    for (int axes = 0; axes < 16; ++axes) {
        Tensor s = x;
        for (std::int64_t axis = 0; axis < 4; ++axis)
            if (axes >> axis & 1) s = s.slice(axis, 1, 2);
        std::vector<double> expected;
        const auto range = [&](int axis, std::int64_t size) {
            return axes >> axis & 1 ? std::pair<std::int64_t, std::int64_t>{1, 3}
                                    : std::pair{std::int64_t{0}, size};
        };
        const auto [n0, n1] = range(0, 3);
        const auto [h0, h1] = range(1, 4);
        const auto [w0, w1] = range(2, 5);
        const auto [c0, c1] = range(3, 6);
        for (auto n = n0; n < n1; ++n)
            for (auto h = h0; h < h1; ++h)
                for (auto w = w0; w < w1; ++w)
                    for (auto c = c0; c < c1; ++c)
                        expected.push_back(static_cast<double>(((n * 4 + h) * 5 + w) * 6 + c));
        EXPECT_EQ(values_of(s), expected) << axes;
        EXPECT_TRUE(s.contiguous().is_contiguous());
        Tensor copy = x.clone();
        for (std::int64_t axis = 0; axis < 4; ++axis)
            if (axes >> axis & 1) copy = copy.slice(axis, 1, 2);
        copy.scale_(2).add_(s, -1);
        EXPECT_EQ(values_of(copy), expected) << axes;
    }
}

TEST(Tensor, ContiguousIsItselfOrACopy) {
    const Tensor x = counting({2, 4});
    EXPECT_TRUE(x.contiguous().same_memory(x));
    const Tensor s = x.slice(1, 1, 2);
    EXPECT_FALSE(s.contiguous().same_memory(s));
    EXPECT_EQ(values_of(s.contiguous()), (std::vector<double>{1, 2, 5, 6}));
    EXPECT_FALSE(x.clone().same_memory(x));
    EXPECT_TRUE(x.detach().same_memory(x));
    EXPECT_EQ(x.slice(1, 2, 1).rows().stride, 4) << "a single column";
}

TEST(Tensor, ConvertsToEveryFloatingDtype) {
    const std::vector<double> values{0, 1, 2, 100, 255};
    const std::vector<std::uint8_t> bytes(values.begin(), values.end());
    const std::vector<std::int64_t> integers(values.begin(), values.end());
    for (const Tensor& x : {Tensor::from(values, {5}), Tensor::from(values, {5}).to(DType::float32),
                            Tensor::from(values, {5}).to(DType::bfloat16), Tensor::from(bytes, {5}),
                            Tensor::from(integers, {5})}) {
        for (const auto type : {DType::float32, DType::float64, DType::bfloat16})
            EXPECT_EQ(values_of(x.to(type)), values) << name_of(x.dtype()) << " to " << name_of(type);
        EXPECT_TRUE(x.to(x.dtype()).same_memory(x));
        EXPECT_EQ(values_of(x.clone()), values);
    }
    const Tensor x = Tensor::from(values, {5});
    expect_error([&] { x.data<float>(); }, {"asked for float32", "float64"});
    expect_error([&] { x.to_vector<float>(); }, {"asked for float32", "float64"});
    expect_error([&] { x.to(DType::uint8); }, {"cannot convert float64 to uint8"});
}

TEST(Tensor, RoundsToBfloat16NearestEven) {
    // 1 + 2^-8 is halfway between 1 and 1 + 2^-7 and rounds to the even one, 1; 1 + 3 * 2^-8 rounds to 1 + 2^-6.
    const Tensor x =
        Tensor::from(std::vector<float>{1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1.01p-8f, -0.0f}, {4});
    const auto rounded = values_of(x.to(DType::bfloat16));
    EXPECT_EQ(rounded, (std::vector<double>{1, 1 + 0x1p-6, 1 + 0x1p-7, 0}));
    EXPECT_TRUE(std::signbit(rounded[3]));
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const auto special = values_of(Tensor::from(std::vector<float>{inf, -inf, nan}, {3}).to(DType::bfloat16));
    EXPECT_EQ(special[0], inf);
    EXPECT_EQ(special[1], -inf);
    EXPECT_TRUE(std::isnan(special[2]));
}

TEST(Tensor, ChangesInPlace) {
    Tensor x = counting({3, 2});
    x.add_(Tensor::full({3, 2}, 10), 0.5);
    EXPECT_EQ(values_of(x), (std::vector<double>{5, 6, 7, 8, 9, 10}));
    x.scale_(-1);
    EXPECT_EQ(values_of(x), (std::vector<double>{-5, -6, -7, -8, -9, -10}));
    x.copy_(counting({3, 2}, DType::bfloat16));
    EXPECT_EQ(values_of(x), (std::vector<double>{0, 1, 2, 3, 4, 5}));
    Tensor column = x.slice(1, 1, 1);
    column.fill_(7);
    EXPECT_EQ(values_of(x), (std::vector<double>{0, 7, 2, 7, 4, 7}));
    expect_error([&] { x.copy_(counting({2, 3})); }, {"[2, 3]", "[3, 2]"});
    expect_error([&] { x.add_(counting({3, 2}, DType::float64)); }, {"add_", "float32", "float64"});
    expect_error([&] { Tensor::zeros({2}, DType::int64).scale_(2); }, {"scale_", "int64"});
}

/// The graph does not see a change in place: the gradient would be that of the old value.
TEST(Tensor, RefusesChangesInPlaceThatTheGraphWouldMiss) {
    const Tensor x = counting({3, 2}).requires_grad_(), other = Tensor::zeros({3, 2});
    Tensor y = ops::scale(x, 3);
    expect_error([&] { y.scale_(2); }, {"scale_", "Scale", "detach()"});
    expect_error([&] { y.add_(other); }, {"add_", "Scale"});
    expect_error([&] { y.fill_(1); }, {"fill_", "Scale"});
    expect_error([&] { y.copy_(other); }, {"copy_", "Scale"});
    EXPECT_EQ(values_of(y), (std::vector<double>{0, 3, 6, 9, 12, 15}));
    y.detach().scale_(2);  // allowed: detach() says that gradients should not see the change
    const autograd::NoGrad no_grad;
    y.scale_(2);
    EXPECT_EQ(values_of(y), (std::vector<double>{0, 12, 24, 36, 48, 60}));
}

TEST(Tensor, RefusesImpossibleViews) {
    const Tensor x = counting({6});
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    expect_error([&] { x.slice(0, 1, most); }, {"slice", "dimension 0", "[6]"});
    expect_error([&] { x.slice(0, most, 1); }, {"slice", "dimension 0", "[6]"});
    expect_error([&] { x.slice(0, 3, 4); }, {"slice", "[6]"});
    expect_error([&] { x.view({-2, -3}); }, {"negative", "[-2, -3]"});
}

TEST(Tensor, ViewsShareTheirBasesVersion) {
    Tensor x = counting({4, 4});
    const Tensor part = x.slice(0, 1, 2).view({8});
    const auto before = part.version();
    x.fill_(0);
    EXPECT_GT(part.version(), before);
    Tensor(part).scale_(2);
    EXPECT_EQ(x.version(), before + 2);
    x.bump_version();
    EXPECT_EQ(part.version(), before + 3);
    EXPECT_NE(x.clone().storage(), x.storage());
}

TEST(Tensor, ItemNeedsOneElement) {
    EXPECT_EQ(Tensor::full({1, 1}, 3, DType::int64).item(), 3);
    EXPECT_EQ(Tensor::full({}, 200, DType::uint8).item(), 200);
    EXPECT_EQ(counting({4}).slice(0, 2, 1).item(), 2);
    expect_error([] { Tensor::zeros({2}).item(); }, {"item()", "[2]"});
    expect_error([] { Tensor::from(std::vector<float>{1, 2}, {3}); }, {"2 values", "[3]"});
}

TEST(Tensor, RequiresGradOnlyOfFloatingLeaves) {
    expect_error([] { Tensor::zeros({2}, DType::int64).requires_grad_(); }, {"int64"});
    expect_error([] { Tensor::zeros({2}, DType::bfloat16).requires_grad_(); }, {"bfloat16"});
    Tensor x = Tensor::zeros({2}).requires_grad_();
    EXPECT_TRUE(x.requires_grad());
    EXPECT_TRUE(x.is_leaf());
    EXPECT_FALSE(x.detach().requires_grad());
    EXPECT_STREQ(x.op_name(), "leaf");
    expect_error([&] { x.set_grad(Tensor::zeros({3})); }, {"set_grad", "[3]", "[2]"});
    EXPECT_FALSE(x.requires_grad_(false).requires_grad());
}

TEST(Tensor, DerivedDataLivesAsLongAsItsVersion) {
    Tensor x = counting({4});
    int made = 0;
    const auto make = [&](const Tensor& buffer) {
        buffer.data<std::uint8_t>()[0] = static_cast<std::uint8_t>(++made);
    };
    EXPECT_EQ(x.derived("a", 8, make).data<std::uint8_t>()[0], 1);
    EXPECT_EQ(x.derived("a", 8, make).data<std::uint8_t>()[0], 1);
    EXPECT_EQ(x.derived("b", 8, make).data<std::uint8_t>()[0], 2);
    x.fill_(1);
    const Tensor again = x.derived("a", 8, make);
    EXPECT_EQ(again.data<std::uint8_t>()[0], 3);
    EXPECT_TRUE(again.same_memory(x.derived("a", 8, make)));
    x.slice(0, 0, 1).fill_(2);
    EXPECT_EQ(x.derived("a", 8, make).data<std::uint8_t>()[0], 4) << "a view's change was missed";
    const auto allocator = allocator_of(Device::cpu());
    x.derived("large", 1 << 20, [](const Tensor&) {});
    const auto before = allocator->stats().in_use;
    x.release_derived();
    EXPECT_LE(allocator->stats().in_use + (1 << 20), before);
    EXPECT_EQ(x.derived("a", 8, make).data<std::uint8_t>()[0], 5);
}

TEST(Tensor, DerivedDataThatCouldNotBeMadeIsMadeAgain) {
    const Tensor x = Tensor::from(std::vector<float>{1}, {1});
    EXPECT_EQ(x.version(), 0u);
    EXPECT_THROW(x.derived("a", 8, [](const Tensor&) { fail("no"); }), Error);
    bool made = false;
    x.derived("a", 8, [&](const Tensor&) { made = true; });
    EXPECT_TRUE(made);
}

}  // namespace
}  // namespace ito
