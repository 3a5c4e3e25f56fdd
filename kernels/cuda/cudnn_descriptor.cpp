#include "kernels/cuda/cudnn_descriptor.h"

#include <algorithm>

namespace ito::kernels::cudnn {

void check(cudnnStatus_t status, const char* call) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    char words[512] = "";
    cudnnGetLastErrorString(words, sizeof(words));
    std::string text = std::string(call) + ": " + cudnnGetErrorString(status);
    if (words[0] != '\0') text += std::string(" (") + words + ")";
    std::replace(text.begin(), text.end(), '\n', ' ');
    throw CudnnError(text);
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
    check(cudnnBackendCreateDescriptor(type, &handle_), "cudnnBackendCreateDescriptor");
}

Descriptor::~Descriptor() {
    if (handle_ != nullptr) cudnnBackendDestroyDescriptor(handle_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                     const void* values) {
    check(cudnnBackendSetAttribute(handle_, name, type, count, values), "cudnnBackendSetAttribute");
}
void Descriptor::set(cudnnBackendAttributeName_t name, std::int64_t value) {
    set(name, CUDNN_TYPE_INT64, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values) {
    set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
}
void Descriptor::set(cudnnBackendAttributeName_t name, float value) {
    set(name, CUDNN_TYPE_FLOAT, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, bool value) {
    set(name, CUDNN_TYPE_BOOLEAN, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
    set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}
void Descriptor::set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.handle_);
}
void Descriptor::set(cudnnBackendAttributeName_t name, std::span<const cudnnBackendDescriptor_t> values) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(values.size()), values.data());
}

void Descriptor::finalize() {
    check(cudnnBackendFinalize(handle_), "cudnnBackendFinalize");
}

std::int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                             std::int64_t capacity, void* values) const {
    std::int64_t count = 0;
    check(cudnnBackendGetAttribute(handle_, name, type, capacity, &count, values),
          "cudnnBackendGetAttribute");
    return count;
}
std::int64_t Descriptor::integer(cudnnBackendAttributeName_t name) const {
    std::int64_t value = 0;
    get(name, CUDNN_TYPE_INT64, 1, &value);
    return value;
}

}  // namespace ito::kernels::cudnn
