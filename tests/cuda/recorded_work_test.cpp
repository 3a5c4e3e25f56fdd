// Device work recorded into a CUDA graph and replayed.

#include "core/recorded_work.h"

#include "core/device_value.h"
#include "core/ops/elementwise.h"
#include "core/ops/random.h"
#include "tests/support/cuda_machine.h"
#include "tests/support/expect_error.h"
#include "tests/support/tensors.h"

namespace ito {
namespace {

using testing::expect_error;
using testing::for_each_schedule;

class CudaRecordedWork : public testing::CudaTest {};

// y = x + noise(step) through a temporary, with other work between the runs that would take the temporary's memory.
TEST_F(CudaRecordedWork, ReplaysWithOtherValuesBehindThePointers) {
    for_each_schedule([&] {
        std::vector<std::vector<float>> results[2];
        for (const bool record : {false, true}) {
            DeviceValue<std::uint64_t> step(Device::cuda());
            const Tensor x = testing::normal({40, 25}, 3, DType::float32).to(Device::cuda());
            Tensor y = Tensor::like(x);
            RecordedWork work(Device::cuda(), record);
            for (std::uint64_t i = 0; i < 6; ++i) {
                step.set(i);
                work.run([&] {
                    Tensor noise = Tensor::like(x);
                    ops::fill_normal(noise,
                                     {.seed = 1, .purpose = kernels::Purpose::test, .step = step.pointer()});
                    y.copy_(ops::add(x, noise));
                });
                const Tensor others = Tensor::full({4000}, 17, DType::float32, Device::cuda());
                results[record].push_back(y.to_vector<float>());
                EXPECT_EQ(work.nodes() > 0, record && i >= 2);
            }
        }
        EXPECT_EQ(results[0], results[1]);
        EXPECT_NE(results[1][3], results[1][4]);
    });
}

// What throws while it is recorded throws outside, and the stream works on.
TEST_F(CudaRecordedWork, AnErrorEndsTheRecording) {
    Tensor x = Tensor::zeros({10}, DType::float32, Device::cuda());
    RecordedWork work(Device::cuda(), true);
    int runs = 0;
    const auto body = [&] {
        x.fill_(1);
        if (++runs == 3) fail("the third run is the one that is recorded");
    };
    work.run(body);
    work.run(body);
    expect_error([&] { work.run(body); }, {"third run"});
    work.run(body);
    work.run(body);
    EXPECT_EQ(runs, 4) << "recorded at the next chance, then replayed";
    EXPECT_EQ(x.to_vector<float>(), std::vector<float>(10, 1));
}

// Reading a result while recording cannot work, and says so.
TEST_F(CudaRecordedWork, WaitingIsRefused) {
    const Tensor x = Tensor::zeros({10}, DType::float32, Device::cuda());
    RecordedWork work(Device::cuda(), true, 0);
    expect_error([&] { work.run([&] { x.to_vector<float>(); }); }, {"recorded"});
    EXPECT_EQ(x.to_vector<float>(), std::vector<float>(10, 0));
}

}  // namespace
}  // namespace ito
