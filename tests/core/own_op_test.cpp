// The worked example of core/README.md: it compiles, its gradient is right, and the README shows exactly it.

// [README]
#include <cmath>

#include "core/autograd/gradient_check.h"
#include "core/autograd/node.h"
#include "core/dispatch.h"

namespace example {
using namespace ito;

/// y = log(1 + exp(x)), so dx = dy * sigmoid(x): backward needs x, and nothing else.
struct SoftplusNode final : autograd::Node {
    autograd::Saved x;

    const char* name() const override { return "Softplus"; }

    void backward(autograd::Gradient gradient, std::span<autograd::GradientSlot> inputs) override {
        autograd::GradientSlot& slot = inputs[0];
        if (!slot.wanted()) return;  // nobody asked for dx
        dispatch<OnCpu<float, double>>(name(), device(), dtype(), [&]<class T>() {
            const Tensor dy = gradient.value.contiguous();
            const Tensor input = x.get(name());          // an error if x has changed since
            const bool accumulate = slot.accumulates();  // ask before buffer(), which counts as writing
            const Tensor dx = slot.dense_buffer();
            const T *g = dy.data<T>(), *in = input.data<T>();
            T* out = dx.data<T>();
            for (std::int64_t i = 0; i < dx.numel(); ++i)
                out[i] = (accumulate ? out[i] : 0) + g[i] / (1 + std::exp(-in[i]));
        });
    }
    void release() override { x = {}; }
};

Tensor softplus(const Tensor& x) {
    // 1. Check.
    require(x.device().is_cpu(), "softplus: its input is on {}, expected the CPU", to_string(x.device()));
    // 2. Compute. Tensors have strides; contiguous() copies only what is not dense.
    const Tensor input = x.contiguous();
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch<OnCpu<float, double>>("softplus", x.device(), x.dtype(), [&]<class T>() {
        const T* in = input.data<T>();
        T* out = y.data<T>();
        for (std::int64_t i = 0; i < y.numel(); ++i)
            out[i] = std::max(in[i], T{0}) + std::log1p(std::exp(-std::abs(in[i])));
    });
    // 3. Record a node; it is made only if x needs a gradient.
    return autograd::record("softplus", y, {x}, [&] {
        auto node = std::make_shared<SoftplusNode>();
        node->x = autograd::Saved(input);
        return node;
    });
}

/// 4. Check the gradient against central differences in float64.
autograd::GradientCheck check_softplus() {
    const std::vector<double> values{-30, -2, -0.1, 0, 0.7, 25};
    const Tensor x = Tensor::from(values, {2, 3}).requires_grad_();
    return autograd::check_gradients([](const auto& in) { return softplus(in[0]); }, {x});
}

}  // namespace example
// [README]

#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/ops/view.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using example::softplus;

TEST(OwnOp, HasTheValueAndGradientItSays) {
    const auto result = example::check_softplus();
    EXPECT_TRUE(result.passed) << result.message;

    const Tensor x = Tensor::from(std::vector<double>{-1000, 0, 2, 1000}, {4}).requires_grad_();
    const Tensor y = softplus(x);
    EXPECT_STREQ(y.op_name(), "Softplus");
    const auto values = y.to_vector<double>();
    EXPECT_EQ(values[0], 0);
    EXPECT_DOUBLE_EQ(values[1], std::log(2));
    EXPECT_DOUBLE_EQ(values[2], std::log1p(std::exp(2)));
    EXPECT_EQ(values[3], 1000);
}

TEST(OwnOp, ServesEverySlotAndLayout) {
    // A second consumer accumulates into the same gradient; a slice is not dense.
    const Tensor wide = testing::leaf({3, 8}, 1);
    const auto twice = autograd::check_gradients(
        [](const auto& in) {
            const Tensor part = ops::slice(in[0], 1, 2, 4);
            return ops::add(softplus(part), ops::multiply(part, softplus(ops::scale(part, 2))));
        },
        {wide});
    EXPECT_TRUE(twice.passed) << twice.message;

    // Without a leaf that needs a gradient nothing is recorded, and float32 works as float64 does.
    const Tensor constant = testing::normal({5}, 2, DType::float32);
    EXPECT_TRUE(softplus(constant).is_leaf());
    EXPECT_LT(testing::relative_l2(softplus(constant), softplus(constant.to(DType::float64))), 1e-6);
}

TEST(OwnOp, RefusesWhatItCannotDo) {
    testing::expect_error([] { softplus(Tensor::zeros({2}, DType::uint8)); }, {"softplus", "uint8"});
    Tensor x = testing::normal({3}, 3);
    const Tensor scaled = ops::scale(x.requires_grad_(), 1);
    Tensor y = softplus(scaled);
    Tensor(scaled.detach()).fill_(1);
    testing::expect_error([&] { ops::sum(y).backward(); }, {"Softplus", "version"});
}

/// What lies between the first `begin` after `from` and the next `end`.
std::string between(const std::string& text, const std::string& from, const std::string& begin,
                    const std::string& end) {
    const auto start = text.find(begin, text.find(from));
    if (start == std::string::npos) return {};
    const auto first = start + begin.size();
    return text.substr(first, text.find(end, first) - first);
}

TEST(OwnOp, IsWhatTheReadmeShows) {
    const std::filesystem::path root = ITO_SOURCE_DIR;
    const std::string source = testing::TemporaryFolder::read(root / "tests/core/own_op_test.cpp");
    const std::string readme = testing::TemporaryFolder::read(root / "core/README.md");
    const std::string code = between(source, "", "// [README]\n", "// [README]\n");
    ASSERT_GT(code.size(), 1000u);
    EXPECT_EQ(between(readme, "## Your own op in 60 lines", "```cpp\n", "```\n"), code)
        << "copy the marked lines of tests/core/own_op_test.cpp into core/README.md";
    EXPECT_LE(std::count(code.begin(), code.end(), '\n'), 60);
}

}  // namespace
}  // namespace ito
