// cuBLASLt and cuDNN, loaded when the first of their functions is called. They are hundreds of megabytes; a command that
// computes on the CPU should not need them. The functions below have the libraries' names and forward their arguments.
// Programs on the virtual GPU are linked with its stand-ins instead (tools/vgpu/runtime).

#include <cublasLt.h>
#include <cudnn.h>
#include <dlfcn.h>

#include <string>

#include "core/error.h"

namespace {

/// Never unloaded: the handles of the library live until the end of the process.
void* load(const std::string& name, const char* where_built) {
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) library = dlopen(where_built, RTLD_NOW | RTLD_LOCAL);
    ito::require(
        library != nullptr,
        "{} cannot be loaded ({}); install it, or name its folder in LD_LIBRARY_PATH, or use `device` cpu",
        name, library == nullptr ? dlerror() : "");
    return library;
}

void* cublaslt() {
    static void* const library =
        load(fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR), ITO_CUBLASLT_LIBRARY);
    return library;
}

void* cudnn() {
    static void* const library = load(fmt::format("libcudnn.so.{}", CUDNN_MAJOR), ITO_CUDNN_LIBRARY);
    return library;
}

template <class Function>
Function* function(void* library, const char* name) {
    void* symbol = dlsym(library, name);
    ito::require(symbol != nullptr, "{} is missing in its library: another version than at build time", name);
    return reinterpret_cast<Function*>(symbol);
}

}  // namespace

#define ITO_FORWARD(library, name, ...)                                      \
    static auto* const forward = function<decltype(name)>(library(), #name); \
    return forward(__VA_ARGS__)

extern "C" {

size_t cublasLtGetVersion(void) {
    ITO_FORWARD(cublaslt, cublasLtGetVersion);
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    ITO_FORWARD(cublaslt, cublasLtCreate, handle);
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    ITO_FORWARD(cublaslt, cublasLtDestroy, handle);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
    ITO_FORWARD(cublaslt, cublasLtMatrixLayoutCreate, layout, type, rows, columns, leading);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    ITO_FORWARD(cublaslt, cublasLtMatrixLayoutDestroy, layout);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    ITO_FORWARD(cublaslt, cublasLtMatmulDescCreate, operation, compute, scale);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
    ITO_FORWARD(cublaslt, cublasLtMatmulDescDestroy, operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
    ITO_FORWARD(cublaslt, cublasLtMatmulDescSetAttribute, operation, attribute, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    ITO_FORWARD(cublaslt, cublasLtMatmulPreferenceCreate, preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    ITO_FORWARD(cublaslt, cublasLtMatmulPreferenceDestroy, preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
    ITO_FORWARD(cublaslt, cublasLtMatmulPreferenceSetAttribute, preference, attribute, value, bytes);
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
    ITO_FORWARD(cublaslt, cublasLtMatmulAlgoGetHeuristic, handle, operation, a, b, c, d, preference,
                requested, results, returned);
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
    ITO_FORWARD(cublaslt, cublasLtMatmulAlgoCheck, handle, operation, a, b, c, d, algorithm, result);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a_data, cublasLtMatrixLayout_t a, const void* b_data,
                              cublasLtMatrixLayout_t b, const void* beta, const void* c_data,
                              cublasLtMatrixLayout_t c, void* d_data, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    ITO_FORWARD(cublaslt, cublasLtMatmul, handle, operation, alpha, a_data, a, b_data, b, beta, c_data, c,
                d_data, d, algorithm, workspace, workspace_bytes, stream);
}
size_t cudnnGetVersion(void) {
    ITO_FORWARD(cudnn, cudnnGetVersion);
}
const char* cudnnGetErrorString(cudnnStatus_t status) {
    ITO_FORWARD(cudnn, cudnnGetErrorString, status);
}
void cudnnGetLastErrorString(char* message, size_t bytes) {
    ITO_FORWARD(cudnn, cudnnGetLastErrorString, message, bytes);
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
    ITO_FORWARD(cudnn, cudnnCreate, handle);
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    ITO_FORWARD(cudnn, cudnnDestroy, handle);
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    ITO_FORWARD(cudnn, cudnnSetStream, handle, stream);
}
cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
    ITO_FORWARD(cudnn, cudnnBackendCreateDescriptor, type, descriptor);
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    ITO_FORWARD(cudnn, cudnnBackendDestroyDescriptor, descriptor);
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
    ITO_FORWARD(cudnn, cudnnBackendFinalize, descriptor);
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
    ITO_FORWARD(cudnn, cudnnBackendSetAttribute, descriptor, name, type, count, values);
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                                       void* values) {
    ITO_FORWARD(cudnn, cudnnBackendGetAttribute, descriptor, name, type, requested, count, values);
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
    ITO_FORWARD(cudnn, cudnnBackendExecute, handle, plan, pack);
}

}  // extern "C"
