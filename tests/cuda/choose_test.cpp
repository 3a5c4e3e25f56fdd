// Finding the fastest of several candidates, and what core keeps of it.

#include "kernels/cuda/choose.h"

#include <cuda_runtime_api.h>

#include <stdexcept>

#include "core/choices.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/ops/conv2d.h"
#include "core/tensor.h"
#include "kernels/common/error.h"
#include "kernels/cuda/cuda_error.h"
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"

namespace ito::kernels {
namespace {

using testing::DeviceArray;

class Choose : public testing::CudaTest {
  protected:
    static constexpr std::size_t bytes = 1 << 20;

    void fill(const Context& context, int times) const {
        for (int i = 0; i < times; ++i)
            check_cuda(
                cudaMemsetAsync(memory.data(), i, bytes, static_cast<cudaStream_t>(context.stream.handle)),
                "cudaMemsetAsync");
    }

    DeviceArray<std::uint8_t> memory{bytes};
};

TEST_F(Choose, FindsTheFastest) {
    const Context context = this->context();
    EXPECT_EQ(fastest(context, 3, [&](std::size_t i) { fill(context, i == 1 ? 1 : 40); }, {}), 1u);
}

TEST_F(Choose, ACandidateThatThrowsIsOut) {
    const Context context = this->context();
    const auto run = [&](std::size_t i) {
        if (i == 0) throw Error("not on this device");
        fill(context, 1);
    };
    EXPECT_EQ(fastest(context, 2, run, {}), 1u);
    EXPECT_THROW(fastest(context, 1, run, {}), Error) << "nothing else is left";
    EXPECT_TRUE(can_time(context)) << "no capture is left open";
}

TEST_F(Choose, PutsBackWhatCandidatesAddTo) {
    const Context context = this->context();
    std::vector<std::uint8_t> before(bytes);
    for (std::size_t i = 0; i < bytes; ++i) before[i] = static_cast<std::uint8_t>(i * 7);
    memory.upload(before.data());
    // Every row of 100 bytes but the gaps of 28 between them.
    const Accumulated rows{memory.data(), bytes / 128, 100, 128};
    fastest(context, 2, [&](std::size_t) { fill(context, 3); }, {&rows, 1});
    const std::vector<std::uint8_t> after = memory.to_vector();
    for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(after[i], i % 128 < 100 ? before[i] : 2) << i;
}

TEST_F(Choose, NothingIsTimedInACapture) {
    const Context context = this->context();
    EXPECT_TRUE(can_time(context));
    EXPECT_FALSE(can_time(Context{})) << "the default stream cannot be captured";
    auto* const stream = static_cast<cudaStream_t>(context.stream.handle);
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    EXPECT_FALSE(can_time(context));
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// A run's choices: made by ops, taken out, given to the next process.
TEST_F(Choose, OpsKeepToTheChoicesThatAreGiven) {
    const Device device = Device::cuda();
    set_variant_choices(device, {});
    const auto run = [&] {
        const Tensor x = Tensor::full({1, 4, 4, 8}, 1, DType::float32, device);
        const Tensor weight = Tensor::full({8, 3, 3, 8}, 0.5, DType::float32, device);
        return ops::conv2d(x, weight, {}, ops::Conv2dOptions::padded(1)).to_vector<float>();
    };
    const std::vector<float> expected = run();
    VariantMap chosen = variant_choices(device);
    ASSERT_EQ(chosen.size(), 1u);
    EXPECT_EQ(chosen.begin()->first, "conv2d_forward float32 1x4x4x8 -> 8 3x3 s1 p1,1,1,1");
    EXPECT_EQ(choices_from_json(choices_to_json(chosen), "test"), chosen);
    chosen.begin()->second = "tiled";
    set_variant_choices(device, chosen);
    EXPECT_EQ(run(), expected);
    EXPECT_EQ(variant_choices(device), chosen);
    EXPECT_TRUE(take_choice_notices(device).empty());
    chosen.begin()->second = "of another machine";
    set_variant_choices(device, chosen);
    EXPECT_EQ(run(), expected);
    EXPECT_EQ(take_choice_notices(device).size(), 1u);
    EXPECT_TRUE(take_choice_notices(device).empty()) << "taken";
    set_variant_choices(device, {});
}

TEST_F(Choose, OneLineSaysWhyCudnnIsNotUsed) {
    ito::release_devices();
    EXPECT_EQ(why_no_cudnn(Device::cuda()), "");
    EXPECT_EQ(why_no_cudnn(Device::cpu()), "");
    ito::release_devices();
    if (!testing::fail_next("cudnnCreate", 1, cudaErrorMemoryAllocation))
        GTEST_SKIP() << "needs the virtual GPU";
    EXPECT_NE(why_no_cudnn(Device::cuda()).find("hand-written kernels: cuDNN cannot start"),
              std::string::npos);
    ito::release_devices();
}

}  // namespace
}  // namespace ito::kernels
