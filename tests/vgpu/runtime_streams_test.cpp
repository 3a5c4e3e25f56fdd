#include <thread>

#include "tests/vgpu/runtime_support.h"

namespace vgpu_test {
namespace {

using vgpu::Fault;
using vgpu::Order;

// Every test runs in several orders.
class RuntimeStreams : public Runtime, public testing::WithParamInterface<vgpu::Schedule> {
  protected:
    void SetUp() override {
        Runtime::SetUp();
        vgpu::set_schedule(GetParam());
    }
};

std::string schedule_name(const testing::TestParamInfo<vgpu::Schedule>& info) {
    switch (info.param.order) {
        case Order::forward:
            return "forward";
        case Order::reverse:
            return "reverse";
        default:
            return "random" + std::to_string(info.param.seed);
    }
}

INSTANTIATE_TEST_SUITE_P(Orders, RuntimeStreams,
                         testing::Values(vgpu::Schedule{Order::forward, 0}, vgpu::Schedule{Order::reverse, 0},
                                         vgpu::Schedule{Order::random, 1}, vgpu::Schedule{Order::random, 2},
                                         vgpu::Schedule{Order::random, 3}),
                         schedule_name);

constexpr std::size_t n = 64;

TEST_P(RuntimeStreams, OneStreamKeepsItsOrder) {
    float* x = device_array<float>(n);
    cudaStream_t stream = make_stream();
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, stream));
    for (int i = 0; i < 5; ++i) {
        EXPECT_CUDA(affine("step", stream, x, x, n, 2, 1));
    }
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(std::vector<float>(n, 31), to_host(x, n));
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, EventsOrderTwoStreams) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream(), two = make_stream();
    cudaEvent_t there = make_event(), back = make_event();
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    for (int i = 0; i < 4; ++i) {
        EXPECT_CUDA(affine("add", one, x, x, n, 1, 1));
        EXPECT_CUDA(cudaEventRecord(there, one));
        EXPECT_CUDA(cudaStreamWaitEvent(two, there, 0));
        EXPECT_CUDA(affine("double", two, x, x, n, 2, 0));
        EXPECT_CUDA(cudaEventRecord(back, two));
        EXPECT_CUDA(cudaStreamWaitEvent(one, back, 0));
    }
    std::vector<float> host(n);
    EXPECT_CUDA(cudaMemcpyAsync(host.data(), x, n * 4, cudaMemcpyDeviceToHost, one));
    EXPECT_EQ(std::vector<float>(n, 30), host);
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, MissingEventIsReportedInEveryOrder) {
    float* x = device_array<float>(n);
    float* y = device_array<float>(n);
    cudaStream_t one = make_stream(), two = make_stream();
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaMemset(y, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_CUDA(affine("produce", one, x, x, n, 1, 1));
    EXPECT_CUDA(affine("consume", two, y, x, n, 1, 0));
    EXPECT_CUDA(cudaDeviceSynchronize());
    const vgpu::Report entry = first(Fault::missing_event);
    EXPECT_EQ(1u, count(Fault::missing_event)) << all_reports();
    EXPECT_NE(std::string::npos, entry.text.find("produce (stream 1)")) << entry.text;
    EXPECT_NE(std::string::npos, entry.text.find("consume (stream 2)")) << entry.text;
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(x), entry.address);
    const bool reverse = GetParam().order == Order::reverse;
    if (GetParam().order != Order::random) {
        EXPECT_EQ(reverse ? 0.0f : 1.0f, to_host(y, n)[0]) << "wrong data in some order";
    }
}

TEST_P(RuntimeStreams, OverwriteBeforeARemoteReaderIsReported) {
    float* x = device_array<float>(n);
    float* y = device_array<float>(n);
    cudaStream_t one = make_stream(), two = make_stream(), three = make_stream();
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaMemset(y, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    // Two readers may run together; a writer must wait for both.
    EXPECT_CUDA(affine("read 1", one, y, x, n / 2, 1, 0));
    EXPECT_CUDA(affine("read 2", two, y + n / 2, x, n / 2, 1, 0));
    cudaEvent_t event = make_event();
    EXPECT_CUDA(cudaEventRecord(event, two));
    EXPECT_CUDA(cudaStreamWaitEvent(three, event, 0));
    EXPECT_CUDA(cudaMemsetAsync(x, 1, n * 4, three));
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_EQ(1u, count(Fault::missing_event)) << all_reports();
    const std::string text = first(Fault::missing_event).text;
    EXPECT_NE(std::string::npos, text.find("read 1")) << text;
    EXPECT_EQ(std::string::npos, text.find("read 2")) << text;
}

TEST_P(RuntimeStreams, ConcurrentReadersOfOneBufferAreNoFault) {
    float* x = device_array<float>(n);
    float* y = device_array<float>(4 * n);
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 4; ++i) {
            EXPECT_CUDA(affine("read", make_stream(), y + i * n, x, n, 1, 0));
        }
        EXPECT_CUDA(cudaDeviceSynchronize());
        EXPECT_CUDA(affine("write", nullptr, x, x, n, 1, 1));
        EXPECT_CUDA(cudaDeviceSynchronize());
    }
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, WaitingForAnEventBeforeItsRecordIsNoWait) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream(), two = make_stream();
    cudaEvent_t event = make_event();
    EXPECT_CUDA(cudaStreamWaitEvent(two, event, 0));
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    EXPECT_CUDA(cudaEventRecord(event, one));
    EXPECT_CUDA(cudaMemsetAsync(x, 1, n * 4, two));
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_EQ(1u, count(Fault::missing_event)) << all_reports();
}

TEST_P(RuntimeStreams, SynchronisingTheWrongStreamLeavesTheDataUnfinished) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream(), two = make_stream();
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    EXPECT_CUDA(cudaStreamSynchronize(two));
    EXPECT_EQ(cudaErrorNotReady, cudaStreamQuery(one));
    EXPECT_CUDA(cudaStreamSynchronize(one));
    EXPECT_CUDA(cudaStreamQuery(one));
}

TEST_P(RuntimeStreams, QueriesEndInCompletion) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream(), two = make_stream();
    cudaEvent_t event = make_event();
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    EXPECT_CUDA(affine("add", one, x, x, n, 1, 1));
    EXPECT_CUDA(cudaEventRecord(event, one));
    EXPECT_CUDA(cudaStreamWaitEvent(two, event, 0));
    int questions = 0;
    while (cudaStreamQuery(two) == cudaErrorNotReady) {
        ASSERT_LT(++questions, 100);
    }
    EXPECT_GT(questions, 0);
    EXPECT_EQ(cudaErrorNotReady, cudaGetLastError());
    EXPECT_CUDA(cudaEventQuery(event));
}

TEST_P(RuntimeStreams, DefaultStreamWaitsForBlockingStreamsAndTheyForIt) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream(cudaStreamDefault), two = make_stream(cudaStreamDefault);
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    EXPECT_CUDA(affine("default", nullptr, x, x, n, 1, 3));
    EXPECT_CUDA(affine("two", two, x, x, n, 2, 0));
    EXPECT_CUDA(affine("per thread", nullptr, x, x, n, 1, 1));
    EXPECT_CUDA(affine("per thread", cudaStreamPerThread, x, x, n, 1, 1));
    EXPECT_EQ(std::vector<float>(n, 8), to_host(x, n));
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, DefaultStreamDoesNotWaitForNonBlockingStreams) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream(cudaStreamNonBlocking);
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    EXPECT_CUDA(affine("default", nullptr, x, x, n, 1, 3));
    // In some orders the default stream reads before anything was written, which fails the launch.
    (void)cudaDeviceSynchronize();
    EXPECT_GE(count(Fault::missing_event) + count(Fault::uninitialised), 1u) << all_reports();
}

// cudaMemcpy from pageable memory is staged: for a non-blocking stream the data may still be on its way.
TEST_P(RuntimeStreams, PageableCopyDoesNotOrderANonBlockingStream) {
    float* x = device_array<float>(n);
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    cudaStream_t one = make_stream(cudaStreamNonBlocking);
    std::vector<float> host(n, 1);
    EXPECT_CUDA(cudaMemcpy(x, host.data(), n * 4, cudaMemcpyHostToDevice));
    EXPECT_CUDA(affine("add", one, x, x, n, 1, 1));
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_EQ(1u, count(Fault::missing_event)) << all_reports();
}

TEST_P(RuntimeStreams, PageableMemoryIsCopiedAtTheCall) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream();
    std::vector<float> host(n, 5);
    EXPECT_CUDA(cudaMemcpyAsync(x, host.data(), n * 4, cudaMemcpyHostToDevice, one));
    host.assign(n, 6);
    EXPECT_CUDA(cudaMemcpyAsync(host.data(), x, n * 4, cudaMemcpyDeviceToHost, one));
    EXPECT_EQ(std::vector<float>(n, 5), host) << "a copy to pageable memory is done at return";
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, PinnedMemoryIsReadWhenTheCopyRuns) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream();
    void* memory = nullptr;
    EXPECT_CUDA(cudaMallocHost(&memory, n * 4));
    auto* pinned = static_cast<float*>(memory);
    std::fill_n(pinned, n, 5.0f);
    EXPECT_CUDA(cudaMemcpyAsync(x, pinned, n * 4, cudaMemcpyHostToDevice, one));
    std::fill_n(pinned, n, 6.0f);  // too early
    EXPECT_CUDA(cudaStreamSynchronize(one));
    EXPECT_EQ(std::vector<float>(n, 6), to_host(x, n)) << "wrong data";
    EXPECT_EQ(1u, count(Fault::host_access));
    EXPECT_NE(std::string::npos, first(Fault::host_access).text.find("overwrote pinned memory"));
    vgpu::clear_reports();

    EXPECT_CUDA(cudaMemcpyAsync(x, pinned, n * 4, cudaMemcpyHostToDevice, one));
    EXPECT_CUDA(cudaStreamSynchronize(one));
    std::fill_n(pinned, n, 7.0f);  // in time
    // The device itself fills the buffer between two copies.
    EXPECT_CUDA(cudaMemcpyAsync(pinned, x, n * 4, cudaMemcpyDeviceToHost, one));
    EXPECT_CUDA(cudaMemcpyAsync(x, pinned, n * 4, cudaMemcpyHostToDevice, one));
    EXPECT_CUDA(cudaStreamSynchronize(one));
    EXPECT_EQ(6.0f, pinned[3]);
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, HostFunctionsRunInTheirTurnAndMayNotCallCuda) {
    struct Seen {
        std::vector<float>* host;
        float value;
        cudaError_t error;
    };
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream();
    void* pinned = nullptr;
    EXPECT_CUDA(cudaMallocHost(&pinned, n * 4));
    std::vector<float> unused;
    Seen seen{&unused, *static_cast<float*>(pinned) = 0, cudaSuccess};
    std::pair<float*, Seen*> data{static_cast<float*>(pinned), &seen};
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    EXPECT_CUDA(affine("add", one, x, x, n, 1, 4));
    EXPECT_CUDA(cudaMemcpyAsync(pinned, x, n * 4, cudaMemcpyDeviceToHost, one));
    EXPECT_CUDA(cudaLaunchHostFunc(
        one,
        [](void* argument) {
            auto& [values, result] = *static_cast<std::pair<float*, Seen*>*>(argument);
            result->value = values[0];
            result->error = cudaDeviceSynchronize();
            values[0] = 9;
        },
        &data));
    EXPECT_CUDA(cudaMemcpyAsync(x, pinned, n * 4, cudaMemcpyHostToDevice, one));
    EXPECT_CUDA(cudaStreamSynchronize(one));
    EXPECT_EQ(4.0f, seen.value);
    EXPECT_EQ(cudaErrorNotPermitted, seen.error);
    EXPECT_EQ(9.0f, to_host(x, n)[0]);
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, ElapsedTime) {
    cudaEvent_t start = nullptr, end = nullptr;
    EXPECT_CUDA(cudaEventCreate(&start));
    EXPECT_CUDA(cudaEventCreate(&end));
    cudaStream_t one = make_stream();
    float milliseconds = -1;
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&milliseconds, start, end));
    EXPECT_CUDA(cudaEventRecord(start, one));
    EXPECT_CUDA(cudaEventRecord(end, one));
    EXPECT_EQ(cudaErrorNotReady, cudaEventElapsedTime(&milliseconds, start, end));
    EXPECT_CUDA(cudaEventSynchronize(end));
    EXPECT_CUDA(cudaEventElapsedTime(&milliseconds, start, end));
    EXPECT_GE(milliseconds, 0);
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&milliseconds, make_event(), end));
}

TEST_P(RuntimeStreams, DestroyedHandlesAreRecognised) {
    cudaStream_t stream = make_stream();
    cudaEvent_t event = make_event();
    EXPECT_CUDA(cudaStreamDestroy(stream));
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaStreamDestroy(stream));
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(stream));
    EXPECT_CUDA(cudaEventDestroy(event));
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaEventRecord(event, nullptr));
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(0x1234)));
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaEventDestroy(nullptr));
    ASSERT_EQ(5u, count(Fault::bad_handle));
    const auto all = vgpu::reports();
    EXPECT_EQ("cudaStreamDestroy", all[0].kernel);
    EXPECT_NE(std::string::npos, all[0].text.find("was destroyed"));
    EXPECT_NE(std::string::npos, all[3].text.find("never created"));
    EXPECT_NE(std::string::npos, all[4].text.find("null"));
}

TEST_P(RuntimeStreams, WorkOfADestroyedStreamStillRuns) {
    float* x = device_array<float>(n);
    cudaStream_t one = make_stream(cudaStreamDefault);
    EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, one));
    EXPECT_CUDA(cudaStreamDestroy(one));
    EXPECT_EQ(std::vector<float>(n, 0), to_host(x, n)) << "the default stream waits for it";
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_P(RuntimeStreams, ThreadsMayUseTheirOwnStreams) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([t] {
            cudaStream_t stream = make_stream();
            float* x = device_array<float>(n);
            EXPECT_CUDA(cudaMemsetAsync(x, 0, n * 4, stream));
            for (int i = 0; i < 20; ++i) {
                EXPECT_CUDA(affine("add", stream, x, x, n, 1, static_cast<float>(t)));
                if (i % 5 == 0) {
                    EXPECT_CUDA(cudaStreamSynchronize(stream));
                }
            }
            std::vector<float> host(n);
            EXPECT_CUDA(cudaMemcpyAsync(host.data(), x, n * 4, cudaMemcpyDeviceToHost, stream));
            EXPECT_EQ(std::vector<float>(n, 20.0f * t), host);
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

}  // namespace
}  // namespace vgpu_test
