#include "tests/vgpu/runtime_support.h"

namespace vgpu_test {
namespace {

using vgpu::Fault;
using RuntimeGraphs = Runtime;
constexpr std::size_t n = 32;

cudaGraphExec_t instantiate(cudaGraph_t graph) {
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaSuccess, cudaGraphInstantiate(&exec, graph, 0));
    return exec;
}

TEST_F(RuntimeGraphs, ReplayUsesTheMemoryOfTheLaunch) {
    float* x = device_array<float>(n);
    float* y = device_array<float>(n);
    cudaStream_t stream = make_stream();
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    EXPECT_CUDA(affine("double", stream, y, x, n, 2, 0));
    EXPECT_CUDA(affine("step", stream, x, x, n, 1, 1));
    cudaStreamCaptureStatus status{};
    EXPECT_CUDA(cudaStreamIsCapturing(stream, &status));
    EXPECT_EQ(cudaStreamCaptureStatusActive, status);
    EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
    std::size_t nodes = 0;
    EXPECT_CUDA(cudaGraphGetNodes(graph, nullptr, &nodes));
    EXPECT_EQ(2u, nodes);
    EXPECT_EQ(std::vector<float>(n, 0), to_host(x, n)) << "capture runs nothing";

    cudaGraphExec_t exec = instantiate(graph);
    EXPECT_CUDA(cudaGraphDestroy(graph));
    for (int i = 0; i < 3; ++i) {
        EXPECT_CUDA(cudaGraphLaunch(exec, stream));
    }
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(std::vector<float>(n, 4), to_host(y, n));
    std::vector<float> host(n, 10);
    EXPECT_CUDA(cudaMemcpyAsync(x, host.data(), n * 4, cudaMemcpyHostToDevice, stream));
    EXPECT_CUDA(cudaGraphLaunch(exec, stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(std::vector<float>(n, 20), to_host(y, n));
    EXPECT_CUDA(cudaGraphExecDestroy(exec));
    EXPECT_EQ(cudaErrorInvalidValue, cudaGraphLaunch(exec, stream));
    EXPECT_EQ(1u, count(Fault::bad_handle));
    EXPECT_EQ(1u, vgpu::report_count()) << all_reports();
}

// fork by an event, join by an event
cudaGraph_t capture_fork(cudaStream_t one, cudaStream_t two, float* x, float* y, bool join, float factor) {
    cudaEvent_t fork = make_event(), done = make_event();
    EXPECT_EQ(cudaSuccess, cudaStreamBeginCapture(one, cudaStreamCaptureModeThreadLocal));
    EXPECT_EQ(cudaSuccess, affine("root", one, x, x, n, 1, 1));
    EXPECT_EQ(cudaSuccess, cudaEventRecord(fork, one));
    EXPECT_EQ(cudaSuccess, cudaStreamWaitEvent(two, fork, 0));
    EXPECT_EQ(cudaSuccess, affine("left", one, y, x, n / 2, factor, 0));
    EXPECT_EQ(cudaSuccess, affine("right", two, y + n / 2, x, n / 2, 3, 0));
    EXPECT_EQ(cudaSuccess, cudaEventRecord(done, two));
    if (join) {
        EXPECT_EQ(cudaSuccess, cudaStreamWaitEvent(one, done, 0));
    }
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(join ? cudaSuccess : cudaErrorStreamCaptureUnjoined, cudaStreamEndCapture(one, &graph));
    EXPECT_EQ(cudaSuccess, cudaEventDestroy(fork));
    EXPECT_EQ(cudaSuccess, cudaEventDestroy(done));
    return graph;
}

TEST_F(RuntimeGraphs, CaptureFollowsEventsIntoOtherStreams) {
    for (const auto order : {vgpu::Order::forward, vgpu::Order::reverse, vgpu::Order::random}) {
        vgpu::set_schedule({order, 7});
        float* x = device_array<float>(n);
        float* y = device_array<float>(n);
        EXPECT_CUDA(cudaMemset(x, 0, n * 4));
        EXPECT_CUDA(cudaDeviceSynchronize());
        cudaStream_t one = make_stream(), two = make_stream();
        cudaGraph_t graph = capture_fork(one, two, x, y, true, 2);
        cudaGraphExec_t exec = instantiate(graph);
        EXPECT_CUDA(cudaGraphLaunch(exec, one));
        EXPECT_CUDA(cudaGraphLaunch(exec, two)) << "launches of one executable graph follow each other";
        EXPECT_CUDA(cudaStreamSynchronize(two));
        const auto host = to_host(y, n);
        EXPECT_EQ(4.0f, host[0]);
        EXPECT_EQ(6.0f, host[n - 1]);
        EXPECT_CUDA(affine("after", one, x, x, n, 1, 0)) << "streams leave the capture";
        EXPECT_CUDA(cudaDeviceSynchronize());
    }
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeGraphs, BranchesThatMeetInMemoryAreReported) {
    float* x = device_array<float>(n);
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    cudaStream_t one = make_stream(), two = make_stream();
    cudaGraphExec_t exec = instantiate(capture_fork(one, two, x, x, true, 2));
    EXPECT_CUDA(cudaGraphLaunch(exec, one));
    EXPECT_CUDA(cudaDeviceSynchronize());
    // left writes the half of x that right reads
    const std::string text = first(Fault::missing_event).text;
    EXPECT_NE(std::string::npos, text.find("left")) << text;
    EXPECT_NE(std::string::npos, text.find("right")) << text;
}

TEST_F(RuntimeGraphs, UnjoinedCaptureFails) {
    float* x = device_array<float>(n);
    EXPECT_EQ(nullptr, capture_fork(make_stream(), make_stream(), x, x, false, 2));
}

TEST_F(RuntimeGraphs, CallsThatWaitInvalidateTheCapture) {
    cudaStream_t stream = make_stream();
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    void* pointer = nullptr;
    EXPECT_EQ(cudaErrorStreamCaptureUnsupported, cudaMalloc(&pointer, 4));
    EXPECT_EQ(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph));
    EXPECT_EQ(nullptr, graph);

    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    EXPECT_CUDA(cudaMalloc(&pointer, 4));
    EXPECT_EQ(cudaErrorStreamCaptureUnsupported, cudaStreamSynchronize(stream));
    EXPECT_EQ(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph));

    EXPECT_EQ(cudaErrorStreamCaptureUnsupported,
              cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal));
}

TEST_F(RuntimeGraphs, DefaultStreamAndOutsideEventsBreakTheCapture) {
    float* x = device_array<float>(n);
    cudaStream_t stream = make_stream(cudaStreamDefault);
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    EXPECT_EQ(cudaErrorStreamCaptureImplicit, cudaMemsetAsync(x, 0, 4, nullptr));
    EXPECT_EQ(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph));

    cudaEvent_t event = make_event();
    EXPECT_CUDA(cudaEventRecord(event, make_stream()));
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    EXPECT_EQ(cudaErrorStreamCaptureIsolation, cudaStreamWaitEvent(stream, event, 0));
    EXPECT_EQ(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph));
}

TEST_F(RuntimeGraphs, ExecutableGraphsAreUpdated) {
    float* x = device_array<float>(n);
    float* y = device_array<float>(n);
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    cudaStream_t one = make_stream(), two = make_stream();
    cudaGraphExec_t exec = instantiate(capture_fork(one, two, x, y, true, 2));
    cudaGraphExecUpdateResultInfo result{};
    EXPECT_CUDA(cudaGraphExecUpdate(exec, capture_fork(one, two, x, y, true, 5), &result));
    EXPECT_EQ(cudaGraphExecUpdateSuccess, result.result);
    EXPECT_CUDA(cudaGraphLaunch(exec, one));
    EXPECT_CUDA(cudaStreamSynchronize(one));
    EXPECT_EQ(5.0f, to_host(y, n)[0]);

    cudaGraph_t other = nullptr;
    EXPECT_CUDA(cudaStreamBeginCapture(one, cudaStreamCaptureModeGlobal));
    EXPECT_CUDA(cudaMemsetAsync(x, 0, 4, one));
    EXPECT_CUDA(cudaStreamEndCapture(one, &other));
    EXPECT_EQ(cudaErrorGraphExecUpdateFailure, cudaGraphExecUpdate(exec, other, &result));
    EXPECT_EQ(cudaGraphExecUpdateErrorNodeTypeChanged, result.result);
    ASSERT_NE(nullptr, result.errorNode);
    cudaGraphNodeType type{};
    EXPECT_CUDA(cudaGraphNodeGetType(result.errorNode, &type));
    EXPECT_EQ(cudaGraphNodeTypeMemset, type);
}

// A captured step allocates and releases its temporaries while it is captured; replays still see them.
TEST_F(RuntimeGraphs, ReplaySeesThePiecesOfTheCapture) {
    float* slab = device_array<float>(256);
    float* result = device_array<float>(n);
    cudaStream_t stream = make_stream();
    vgpu::annotate_pool(slab);
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    vgpu::annotate_suballocation(slab, n * 4);
    EXPECT_CUDA(cudaMemsetAsync(slab, 0, n * 4, stream));
    EXPECT_CUDA(affine("add", stream, result, slab, n, 1, 1));
    vgpu::release_suballocation(slab);
    vgpu::annotate_suballocation(slab, n * 2);
    EXPECT_CUDA(affine("add", stream, slab, result, n / 2, 1, 1));
    EXPECT_CUDA(affine("add", stream, result, slab, n / 2, 1, 1));
    vgpu::release_suballocation(slab);
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t exec = instantiate(graph);
    for (int i = 0; i < 6000; ++i) {  // enough for pruning
        vgpu::annotate_suballocation(slab + 64, 16);
        vgpu::release_suballocation(slab + 64);
    }
    for (int i = 0; i < 2; ++i) {
        EXPECT_CUDA(cudaGraphLaunch(exec, stream));
        EXPECT_CUDA(cudaStreamSynchronize(stream));
    }
    EXPECT_EQ(3.0f, to_host(result, n)[0]);
    EXPECT_EQ(1.0f, to_host(result, n)[n - 1]);
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(RuntimeGraphs, GraphLaunchesCanBeCaptured) {
    float* x = device_array<float>(n);
    EXPECT_CUDA(cudaMemset(x, 0, n * 4));
    EXPECT_CUDA(cudaDeviceSynchronize());
    cudaStream_t stream = make_stream();
    cudaGraph_t inner = nullptr, outer = nullptr;
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    EXPECT_CUDA(affine("add", stream, x, x, n, 1, 1));
    EXPECT_CUDA(cudaStreamEndCapture(stream, &inner));
    cudaGraphExec_t exec = instantiate(inner);
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    EXPECT_CUDA(cudaGraphLaunch(exec, stream));
    EXPECT_CUDA(affine("double", stream, x, x, n, 2, 0));
    EXPECT_CUDA(cudaGraphLaunch(exec, stream));
    EXPECT_CUDA(cudaStreamEndCapture(stream, &outer));
    EXPECT_CUDA(cudaGraphLaunch(instantiate(outer), stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(3.0f, to_host(x, n)[0]);
}

}  // namespace
}  // namespace vgpu_test
