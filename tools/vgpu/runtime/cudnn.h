// What the parts of the stand-in for cuDNN share.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/vgpu/runtime/state.h"

namespace vgpu::detail {

cudnnStatus_t cudnn_status(cudaError_t error);

// Reports what is wrong with the call's arguments; passes the status on.
cudnnStatus_t refuse_cudnn(cudnnStatus_t status, const char* call, std::string why);
// For what a program may ask to find out whether it is supported: no report, only the library's last words.
cudnnStatus_t decline_cudnn(cudnnStatus_t status, std::string why);

// What every call does around its work. A refusal is the library's status, and no error of the runtime.
template <class Body>
cudnnStatus_t cudnn_api(const char* name, Body&& body) {
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    const cudaError_t error = api(name, [&] {
        status = body();
        return cudaSuccess;
    });
    return error == cudaSuccess ? status : cudnn_status(error);
}

// One value of an attribute that is set.
template <class T>
T dnn_value(const DnnDescriptor& descriptor, int attribute, std::size_t index = 0) {
    T value{};
    const auto& bytes = descriptor.attributes.at(attribute).bytes;
    std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
    return value;
}
inline const DnnDescriptor& dnn_part(const DnnDescriptor& descriptor, int attribute, std::size_t index = 0) {
    return *descriptor.attributes.at(attribute).descriptors.at(index);
}

// --- the graphs that the stand-in knows: a convolution, and additions to its result ---
struct DnnTensor {
    std::int64_t id = 0, alignment = 0;
    int type = 0;
    bool inside = false;  // "virtual": exists only inside the graph
    std::array<std::int64_t, 4> size{}, stride{};
};
struct DnnGraph {
    enum class Pass { forward, backward_data, backward_weights };
    Pass pass = Pass::forward;
    DnnTensor x, weight, y;  // y: what the convolution writes, or in the backward passes reads
    float alpha = 1, beta = 0;
    std::array<std::int64_t, 2> before{}, after{}, step{};
    std::vector<DnnTensor> addends;  // in this order; y's size, or one pixel
    DnnTensor out;                   // what the graph writes
    bool symmetric() const { return before == after; }
};
// Throws std::string where the library would refuse to finalise it.
DnnGraph read_dnn_graph(const DnnDescriptor& graph);

// --- engines (cudnn_engines.cpp) ---
struct DnnEngine {
    std::int64_t index;
    bool tensor_cores, nondeterministic, needs_driver;
    std::int64_t tiles;  // values of its one knob, CUDNN_KNOB_TYPE_TILE_SIZE
    std::int64_t workspace;
};
const DnnEngine* find_dnn_engine(std::int64_t index);
bool dnn_engine_computes(const DnnEngine& engine, const DnnGraph& graph);
// Checks and completes what becomes final.
cudnnStatus_t finalize_dnn(DnnDescriptor& descriptor);
// The descriptors that `descriptor` returns for an attribute; false where it has no such list.
bool dnn_results(const std::shared_ptr<DnnDescriptor>& descriptor, int attribute,
                 std::vector<std::shared_ptr<DnnDescriptor>>& results);

// --- execution (cudnn_execute.cpp) ---
void compute_dnn(const DnnGraph& graph, const DnnEngine& engine, const std::map<std::int64_t, void*>& data);

}  // namespace vgpu::detail
