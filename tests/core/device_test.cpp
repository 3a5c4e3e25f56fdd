#include "core/device.h"

#include <gtest/gtest.h>

#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/dispatch.h"
#include "tests/support/expect_error.h"

namespace ito {
namespace {

using testing::expect_error;

TEST(Device, ParsesEveryForm) {
    EXPECT_EQ(Device::parse("cpu"), Device::cpu());
    EXPECT_EQ(to_string(Device::parse("cpu")), "cpu");
    EXPECT_EQ(to_string(Device::cuda(3)), "cuda:3");
    EXPECT_NE(Device::cuda(0), Device::cuda(1));
    EXPECT_EQ(Device::parse("auto"), cuda::device_count() > 0 ? Device::cuda() : Device::cpu());
}

TEST(Device, RefusesWhatIsNotADevice) {
    for (const char* text : {"", "gpu", "CPU", "cpu:0", "cudax", " cpu"})
        expect_error([&] { Device::parse(text); }, {text, "expected auto, cpu, cuda or cuda:N"});
    for (const char* text : {"cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:123456"})
        expect_error([&] { Device::parse(text); }, {text, "expected cuda:N with N a number"});
}

TEST(Device, RefusesADeviceThatIsNotThere) {
    const int count = cuda::device_count();
    const std::string absent = fmt::format("cuda:{}", count);
    expect_error([&] { Device::parse(absent); },
                 {absent.c_str(), count > 0 ? "expected cuda:0" : "use `device` cpu"});
    EXPECT_EQ(cuda::why_no_device().empty(), count > 0);
    if (!built_with_cuda) {
        expect_error([] { Device::parse("cuda"); }, {"cuda", "no CUDA"});
        expect_error([] { context_of(Device::cuda()); }, {"cuda:0"});
    }
}

TEST(Device, RefusesThreadCountsOutOfRange) {
    const int before = threads();
    for (const int count : {0, -1, 1025})
        expect_error([&] { set_threads(count); }, {"threads", "expected 1 to 1024"});
    EXPECT_EQ(threads(), before);
}

}  // namespace
}  // namespace ito
