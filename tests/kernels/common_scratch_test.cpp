#include "kernels/common/scratch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "tests/support/scratch.h"

namespace ito::kernels {
namespace {

class ScratchTest : public ::testing::Test {
  protected:
    ScratchTest() { context_.scratch = &source_, context_.threads = 3; }

    testing::HeapScratch source_;
    Context context_;
};

TEST_F(ScratchTest, IsFreedAtTheEndOfTheScope) {
    {
        const Scratch<double> a(context_, 7), b(context_, 1);
        EXPECT_EQ(source_.live(), 2);
        EXPECT_NE(a.get(), b.get());
        std::fill_n(a.get(), 7, 1.0);
    }
    EXPECT_EQ(source_.live(), 0);
    try {
        const Scratch<float> a(context_, 7);
        throw Error("while it lives");
    } catch (const Error&) {
    }
    EXPECT_EQ(source_.live(), 0);
}

TEST_F(ScratchTest, NothingIsAskedForNothing) {
    const Scratch<float> none(context_, 0), without(Context{}, 0);
    EXPECT_EQ(none.get(), nullptr);
    EXPECT_EQ(without.get(), nullptr);
    EXPECT_EQ(source_.live(), 0);
    EXPECT_THROW(Scratch<float>(Context{}, 1), Error);
}

TEST_F(ScratchTest, MovesItsBlock) {
    Scratch<float> a(context_, 5), b;
    float* const data = a;
    b = std::move(a);
    EXPECT_EQ(b.get(), data);
    const Scratch<float> c = std::move(b);
    EXPECT_EQ(c.get(), data);
    EXPECT_EQ(source_.live(), 1);
}

TEST_F(ScratchTest, WorkersShareNoCacheLine) {
    const PerWorker<float> parts(context_, 17);
    EXPECT_EQ(source_.live(), 1);
    for (int worker = 0; worker < 3; ++worker) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(parts[worker]) % 64, 0u);
        std::fill_n(parts[worker], 17, static_cast<float>(worker));
    }
    for (int worker = 0; worker < 3; ++worker)
        EXPECT_EQ(std::count(parts[worker], parts[worker] + 17, static_cast<float>(worker)), 17);
    EXPECT_EQ(parts[1] - parts[0], 32);
}

}  // namespace
}  // namespace ito::kernels
