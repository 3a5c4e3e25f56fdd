#pragma once
// The device that tests of CUDA code run on: the virtual GPU (label vgpu) or a real one (label cuda). The same test
// objects are linked with cuda_machine_vgpu.cpp or with cuda_machine_gpu.cpp.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/common/context.h"
#include "tools/vgpu/kernel.h"

namespace ito::testing {

bool on_virtual_gpu();

/// Runs `body` in the virtual GPU's schedules forward, reverse and random: the order of streams, blocks and threads. On
/// a GPU: once.
void for_each_schedule(const std::function<void()>& body);
/// Runs `body` as on an H100, an A100 and an RTX 4090: their shared memory, multiprocessors and limits. On a GPU: once.
void for_each_profile(const std::function<void()>& body);

/// What the kernels of `body` did, by kernel; empty on a GPU, which does not say.
std::vector<vgpu::Counters> counted(const std::function<void()>& body);
/// The sum over all kernels of counted(): bytes are unique per launch.
vgpu::Counters counted_total(const std::function<void()>& body);

/// The nth CUDA call of this name from now on (from 1) returns the error `code` and does nothing else, once. False on a
/// GPU, which does not fail on demand.
bool fail_next(const std::string& call, unsigned nth, int code);
/// Whether the bytes at this device address have been written since they were allocated. On a GPU nobody knows: true.
bool written(const void* data, std::size_t bytes);
/// Runs `body` as on a machine without a driver. False on a GPU.
bool without_driver(const std::function<void()>& body);

/// What the virtual GPU has reported since the last forget_faults().
std::string faults();
void forget_faults();
/// What the virtual GPU has given out and not got back, a line for each kind.
std::string not_given_back();

/// Skipped where no device answers; fails if the virtual GPU reported a fault or memory was leaked.
class CudaTest : public ::testing::Test {
  protected:
    CudaTest();
    ~CudaTest() override;
    void SetUp() override;
    void TearDown() override;

    /// The test's stream, with scratch memory of which each block is an allocation of its own, of exactly the bytes asked for
    /// and filled with NaN. A block that was freed may be had again.
    kernels::Context context();
    /// The same with no scratch memory.
    kernels::Context without_scratch();
    /// Waits for the stream; throws on an error.
    void synchronize();

  private:
    class Scratch;
    void* stream_ = nullptr;
    std::unique_ptr<kernels::ScratchSource> scratch_;
};

}  // namespace ito::testing
