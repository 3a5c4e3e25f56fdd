// Memory of a CUDA device: tensors, slabs, staging, red zones.

#include <cuda_runtime_api.h>

#include <numeric>

#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/cuda/staging.h"
#include "core/device_value.h"
#include "core/memory/allocator.h"
#include "core/tensor.h"
#include "tests/support/cuda_machine.h"
#include "tests/support/expect_error.h"

namespace ito {
namespace {

using testing::CudaTest;
using testing::expect_error;
using testing::for_each_schedule;

const Device device = Device::cuda();

class CudaMemory : public CudaTest {};

template <class T>
std::vector<T> ramp(std::size_t count) {
    std::vector<T> values(count);
    std::iota(values.begin(), values.end(), T{1});
    return values;
}

TEST_F(CudaMemory, TensorsGoThereAndBack) {
    for_each_schedule([] {
        const auto floats = ramp<float>(1000);
        EXPECT_EQ(Tensor::from(floats, {10, 100}, device).to_vector<float>(), floats);
        const auto bytes = ramp<std::uint8_t>(13);
        EXPECT_EQ(Tensor::from(bytes, {13}, device).to_vector<std::uint8_t>(), bytes);
        EXPECT_EQ(Tensor::from(std::vector<std::int64_t>{}, {0, 4}, device).numel(), 0);
        EXPECT_EQ(Tensor::full({}, 2.5, DType::float32, device).item(), 2.5);
        const Tensor there = Tensor::from(floats, {10, 100}).to(device);
        EXPECT_EQ(there.device(), device);
        EXPECT_EQ(there.to(Device::cpu()).to_vector<float>(), floats);
        EXPECT_TRUE(there.to(device).same_memory(there));
    });
}

// More than all staging buffers together: they are used in turn and waited for.
TEST_F(CudaMemory, CopiesMoreThanTheStagingHolds) {
    const std::size_t count = 2 * cuda::Staging::buffer_bytes * cuda::Staging::buffer_count / 8 + 12345;
    const auto values = ramp<std::int64_t>(count);
    for_each_schedule([&] {
        const Tensor there = Tensor::from(values, {static_cast<std::int64_t>(count)}, device);
        EXPECT_EQ(there.to_vector<std::int64_t>(), values);
    });
}

TEST_F(CudaMemory, ViewsCopyAndConvert) {
    for_each_schedule([] {
        const auto values = ramp<float>(6 * 10);
        const Tensor x = Tensor::from(values, {6, 10}, device);
        const Tensor part = x.slice(1, 2, 5).slice(0, 1, 4);
        const Tensor expected = Tensor::from(values, {6, 10}).slice(1, 2, 5).slice(0, 1, 4);
        EXPECT_EQ(part.to_vector<float>(), expected.to_vector<float>());
        EXPECT_EQ(part.to(DType::bfloat16).to(DType::float32).to_vector<float>(),
                  expected.to_vector<float>());
        Tensor target = Tensor::zeros({6, 10}, DType::float32, device);
        target.slice(1, 2, 5).slice(0, 1, 4).copy_(part).scale_(2).add_(part, -1);
        EXPECT_EQ(target.slice(1, 2, 5).slice(0, 1, 4).to_vector<float>(), expected.to_vector<float>());
        Tensor host = Tensor::empty({4, 5});
        host.copy_(part);
        EXPECT_EQ(host.to_vector<float>(), expected.to_vector<float>());
        Tensor wide = Tensor::empty({4, 5}, DType::float64, device);
        wide.copy_(expected);
        EXPECT_EQ(wide.to_vector<double>()[0], expected.to_vector<float>()[0]);
    });
}

TEST_F(CudaMemory, RefusesTensorsOfTwoDevices) {
    Tensor here = Tensor::zeros({3}), there = Tensor::zeros({3}, DType::float32, device);
    expect_error([&] { there.add_(here); }, {"add_", "cuda:0", "cpu", "to()"});
}

TEST_F(CudaMemory, SecondRoundTakesNothingFromTheDriver) {
    const auto round = [] {
        std::vector<Tensor> live;
        for (const std::int64_t size : {100, 5000, 3, 70000, 256, 1000000}) {
            live.push_back(Tensor::full({size}, 1, DType::float32, device));
            if (size % 2) live.erase(live.begin());
        }
    };
    round();
    const auto slabs = allocator_of(device)->stats().slabs;
    const auto calls = cuda::counts();
    round();
    EXPECT_EQ(allocator_of(device)->stats().slabs, slabs);
    EXPECT_EQ(cuda::counts().driver_allocations, calls.driver_allocations);
    EXPECT_EQ(cuda::counts().synchronizations, calls.synchronizations);
}

TEST_F(CudaMemory, BlocksHaveExactBounds) {
    const Tensor x = Tensor::full({5}, 1, DType::float32, device);  // 20 bytes of a block of 256
    std::vector<float> host(6);
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "compute-sanitizer would see it";
    EXPECT_THROW(cuda::copy_to_host(0, host.data(), x.raw(), 24), kernels::CudaError);
    EXPECT_NE(testing::faults(), "");
    testing::forget_faults();
}

TEST_F(CudaMemory, OldContentsOfABlockAreGone) {
    if (!testing::on_virtual_gpu()) GTEST_SKIP() << "compute-sanitizer would see it";
    const Tensor kept = Tensor::full({64}, 1, DType::float32, device);
    const void* freed = Tensor::full({64}, 1, DType::float32, device).raw();
    const Tensor reused = Tensor::empty({64}, DType::float32, device);
    ASSERT_EQ(reused.raw(), freed);
    EXPECT_TRUE(testing::written(kept.raw(), 256));
    EXPECT_FALSE(testing::written(reused.raw(), 256)) << "a kernel that reads it would be reported";
}

TEST_F(CudaMemory, RedZonesWithoutATool) {
    const auto source = cuda::make_memory_source(0, false);
    const std::size_t size = source->granularity();
    std::byte* slab = source->allocate(size);
    ASSERT_NE(slab, nullptr);
    const BlockExtent block{slab, 1024, slab + 256, 300};
    source->open(block, true);
    std::vector<std::byte> data(300);
    cuda::copy_to_host(0, data.data(), block.data, data.size());
    EXPECT_EQ(data[299], std::byte{0xff});
    EXPECT_TRUE(source->close(block, true));
    source->open(block, true);
    cuda::copy_to_device(0, block.data + 299, data.data(), 2);  // one byte too far
    EXPECT_FALSE(source->close(block, true));
    source->free(slab, size);
}

TEST_F(CudaMemory, DeviceValuesAreOrderedWithWork) {
    for_each_schedule([] {
        DeviceValue<std::uint64_t> step(device, 1);
        EXPECT_EQ(step.get(), 1u);
        std::vector<Tensor> seen;
        for (std::uint64_t i = 0; i < 20; ++i) {
            step.set(i);
            Tensor copy = Tensor::empty({8}, DType::uint8, device);
            cuda::copy_between(0, copy.raw(), 0, step.pointer().get(), 8);
            seen.push_back(copy);
        }
        for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i].to_vector<std::uint8_t>()[0], i);
    });
}

TEST_F(CudaMemory, OutOfMemoryNamesTheSizes) {
    // The second time is after free slabs were given back.
    if (!testing::fail_next("cudaMalloc", 1, cudaErrorMemoryAllocation) ||
        !testing::fail_next("cudaMalloc", 2, cudaErrorMemoryAllocation))
        GTEST_SKIP() << "needs the virtual GPU";
    expect_error([] { Tensor::empty({std::int64_t{100} << 20}, DType::float32, device); },
                 {"out of memory on cuda:0", "400 MiB", "smaller batch"});
    EXPECT_EQ(Tensor::full({2}, 3, DType::float32, device).to_vector<float>()[1], 3);
}

TEST_F(CudaMemory, UploadsGoOnAfterAFailure) {
    release_devices();  // with all staging buffers
    if (!testing::fail_next("cudaEventCreateWithFlags", 1, cudaErrorMemoryAllocation))
        GTEST_SKIP() << "needs the virtual GPU";
    EXPECT_THROW(Tensor::from(ramp<float>(4), {4}, device), kernels::CudaError);
    // More than a buffer holds: the one that could not be made is marked with its event.
    const auto values = ramp<float>(3 << 20);
    EXPECT_EQ(Tensor::from(values, {3 << 20}, device).to_vector<float>(), values);
}

TEST_F(CudaMemory, FailedCallsAreNamed) {
    if (!testing::fail_next("cudaMemcpyAsync", 1, cudaErrorInvalidValue))
        GTEST_SKIP() << "needs the virtual GPU";
    try {
        Tensor::from(ramp<float>(4), {4}, device);
        FAIL() << "the failure went unnoticed";
    } catch (const kernels::CudaError& error) {
        EXPECT_NE(std::string(error.what()).find("cudaMemcpyAsync to the device (16 bytes)"),
                  std::string::npos)
            << error.what();
        EXPECT_EQ(error.code(), cudaErrorInvalidValue);
    }
}

}  // namespace
}  // namespace ito
