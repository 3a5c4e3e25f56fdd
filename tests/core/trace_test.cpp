// The calls that a listener gets in a forward and a backward pass.

#include "core/trace.h"

#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/ops/attention.h"
#include "core/ops/conv2d.h"
#include "core/ops/flops.h"
#include "core/ops/group_norm.h"
#include "core/ops/reduce.h"
#include "core/ops/silu.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

/// Writes every call down as text.
class Notes : public trace::OpListener {
  public:
    void begin(trace::Kind kind, const char* name, const Shape* shape) override {
        add(shape ? fmt::format("{} {} {}", name_of(kind), name, *shape)
                  : fmt::format("{} {}", name_of(kind), name));
        ++depth_;
    }
    void end() override { --depth_; }
    void made(const char* op, const Tensor& output, std::span<const Tensor> inputs) override {
        const auto flops = ops::flops_of(op, output, inputs);
        add(fmt::format("made {} {} from {}, {} + {} FLOP", op, output.shape(), inputs.size(), flops.forward,
                        flops.backward));
    }
    void saved(const Tensor& tensor) override { add(fmt::format("saved {}", tensor.shape())); }

    std::vector<std::string> lines;
    int depth() const { return depth_; }

  private:
    void add(const std::string& text) { lines.push_back(fmt::format("{:{}}{}", "", 2 * depth_, text)); }
    int depth_ = 0;
};

TEST(Trace, HearsOpsAndTheirBackwards) {
    Notes notes;
    Tensor x = Tensor::full({2, 4, 4, 3}, 0.5), w = Tensor::full({5, 3, 3, 3}, 0.1);
    w.requires_grad_();
    {
        const trace::Listen listen(notes);
        const Tensor y = ops::silu(ops::conv2d(x, w, {}, ops::Conv2dOptions::padded(1)));
        autograd::backward(ops::sum(y));
    }
    // 2 images of 4x4x5 outputs, 27 products each; no gradient of x is needed.
    const std::vector<std::string> expected{"op conv2d",
                                            "  kernel conv2d_forward",
                                            "  saved [2, 4, 4, 3]",
                                            "  saved [5, 3, 3, 3]",
                                            "  made conv2d [2, 4, 4, 5] from 4, 8640 + 8640 FLOP",
                                            "op silu",
                                            "  kernel silu_forward",
                                            "  saved [2, 4, 4, 5]",
                                            "  made silu [2, 4, 4, 5] from 1, 0 + 0 FLOP",
                                            "op sum",
                                            "  kernel sum"};
    ASSERT_GE(notes.lines.size(), expected.size());
    EXPECT_EQ(std::vector(notes.lines.begin(), notes.lines.begin() + 11), expected);
    const auto at = [&](const std::string& line) {
        return std::find(notes.lines.begin(), notes.lines.end(), line) - notes.lines.begin();
    };
    const auto none = static_cast<std::ptrdiff_t>(notes.lines.size());
    EXPECT_LT(at("backward Sum []"), at("backward Silu [2, 4, 4, 5]"));
    EXPECT_LT(at("backward Silu [2, 4, 4, 5]"), at("backward Conv2d [2, 4, 4, 5]"));
    EXPECT_LT(at("backward Conv2d [2, 4, 4, 5]"), at("  kernel conv2d_backward_weights"));
    EXPECT_LT(at("  kernel conv2d_backward_weights"), none);
    EXPECT_EQ(at("  kernel conv2d_backward_data"), none);
    EXPECT_EQ(notes.depth(), 0);
}

TEST(Trace, HearsAllThatIsSaved) {
    Notes notes;
    const trace::Listen listen(notes);
    Tensor x = Tensor::full({2, 6, 24}, 0.5), gamma = Tensor::full({24}, 1), beta = Tensor::full({24}, 0);
    x.requires_grad_();
    ops::attention(ops::group_norm(x, gamma, beta, {.groups = 4}), 2);
    const auto count = [&](const std::string& line) {
        return std::count(notes.lines.begin(), notes.lines.end(), line);
    };
    EXPECT_EQ(count("  saved [2, 4]"), 2) << "mean and rstd";
    EXPECT_EQ(count("  saved [2, 6, 24]"), 2) << "the inputs of both";
    EXPECT_EQ(count("  saved [2, 6, 8]"), 1) << "attention's output";
    EXPECT_EQ(count("  saved [2, 2, 6]"), 1) << "its log-sum-exp";
    // Two products of 6x6x8 for each of 2 images, and twice that back.
    EXPECT_EQ(count("  made attention [2, 6, 8] from 1, 2304 + 4608 FLOP"), 1);
}

TEST(Trace, SpansOfAPhaseFollowEachOther) {
    Notes notes;
    {
        const trace::Listen listen(notes);
        trace::Span phase(trace::Kind::phase, "one");
        phase.next("two");
        const trace::Span inner(trace::Kind::op, "inner");
    }
    EXPECT_EQ(notes.lines, (std::vector<std::string>{"phase one", "phase two", "  op inner"}));
    EXPECT_EQ(notes.depth(), 0);
}

TEST(Trace, NamesLayersForwardAndBackward) {
    const std::string outer = "up.0", inner = "up.0.act", none;
    Tensor x = Tensor::full({2}, 0.5);
    x.requires_grad_();
    Notes notes;
    const auto unnamed = ops::silu(x);
    const Tensor gradient = Tensor::full({2}, 1);
    {
        const trace::Listen listen(notes);
        const trace::Layer nothing(none), whole(outer);
        const auto y = [&] {
            const trace::Layer part(inner);
            return ops::silu(x);
        }();
        EXPECT_EQ(autograd::node_of(y)->layer(), inner);
        EXPECT_EQ(*trace::layer, outer);
        autograd::backward(y, gradient);
    }
    EXPECT_EQ(autograd::node_of(unnamed)->layer(), "");
    ASSERT_GE(notes.lines.size(), 9u);
    notes.lines.resize(9);
    EXPECT_EQ(notes.lines, (std::vector<std::string>{
                               "layer up.0", "  layer up.0.act", "    op silu", "      kernel silu_forward",
                               "      saved [2]", "      made silu [2] from 1, 0 + 0 FLOP",
                               "  layer up.0.act", "    backward Silu [2]", "      kernel silu_backward"}));
    EXPECT_EQ(trace::layer, nullptr);
}

TEST(Trace, IsOffWithoutAListener) {
    EXPECT_EQ(trace::listener, nullptr);
    Notes outer, inner;
    {
        const trace::Listen a(outer);
        {
            const trace::Listen b(inner);
            ops::silu(Tensor::zeros({2, 2}));
        }
        EXPECT_EQ(trace::listener, &outer);
    }
    EXPECT_EQ(trace::listener, nullptr);
    EXPECT_TRUE(outer.lines.empty());
    EXPECT_FALSE(inner.lines.empty());
    const std::size_t heard = inner.lines.size();
    ops::silu(Tensor::zeros({2, 2}));
    EXPECT_EQ(inner.lines.size(), heard);
}

}  // namespace
}  // namespace ito
