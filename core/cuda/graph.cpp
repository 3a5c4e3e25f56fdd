#include <exception>

#include "core/cuda/cuda.h"
#include "core/cuda/handles.h"

namespace ito::cuda {
namespace {

class StreamGraph final : public RecordedGraph {
  public:
    StreamGraph(cudaStream_t stream, const Graph& graph) : stream_(stream) {
        cudaGraphExec_t exec = nullptr;
        check_cuda(cudaGraphInstantiate(&exec, graph.get(), 0), "cudaGraphInstantiate");
        exec_ = GraphExec(exec);
        check_cuda(cudaGraphGetNodes(graph.get(), nullptr, &nodes_), "cudaGraphGetNodes");
    }

    void launch() override { check_cuda(cudaGraphLaunch(exec_.get(), stream_), "cudaGraphLaunch"); }
    std::size_t nodes() const override { return nodes_; }

  private:
    cudaStream_t stream_;
    GraphExec exec_;
    std::size_t nodes_ = 0;
};

}  // namespace

std::unique_ptr<RecordedGraph> record(int index, const std::function<void()>& work) {
    auto* const stream = cuda::stream(index);
    // Relaxed, because the allocator may call cudaMalloc while work is recorded.
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    std::exception_ptr error;
    try {
        work();
    } catch (...) {
        error = std::current_exception();
    }
    cudaGraph_t captured = nullptr;
    const cudaError_t code = cudaStreamEndCapture(stream, &captured);
    const Graph graph(captured);
    if (error) {
        cudaGetLastError();  // the exception says what broke the recording
        std::rethrow_exception(error);
    }
    check_cuda(code, "cudaStreamEndCapture");
    return std::make_unique<StreamGraph>(stream, graph);
}

}  // namespace ito::cuda
