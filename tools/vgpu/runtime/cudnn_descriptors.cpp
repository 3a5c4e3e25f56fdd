// The stand-in for the descriptors of cuDNN's backend API: which attributes there are, of which type and how many values,
// what is set before finalizing and read after it. Attributes that the project does not use are refused.
#include <algorithm>
#include <cstring>

#include "tools/vgpu/runtime/cudnn.h"

using vgpu::Fault;
using vgpu::detail::cudnn_api;
using vgpu::detail::decline_cudnn;
using vgpu::detail::DnnDescriptor;
using vgpu::detail::refuse_cudnn;
using vgpu::detail::report_api;
using vgpu::detail::state;

namespace {

/// An attribute of a kind of descriptor.
struct Attribute {
    int kind, name, type;
    std::int64_t least, most;  // values
    bool required;
};

constexpr std::int64_t any = 64;
constexpr int handle_type = CUDNN_TYPE_BACKEND_DESCRIPTOR;

constexpr Attribute known[] = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, 4, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, 4, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, 1, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, 1, true},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, 1, false},

    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, 1, true},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1,
     true},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1,
     1, true},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, 2, true},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, 2,
     true},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, 2, true},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, 2,
     true},

    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, 1, true},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, 1, true},

    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, handle_type,
     1, 1, true},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, handle_type, 1, 1,
     true},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, handle_type, 1, 1,
     true},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, handle_type, 1, 1,
     true},

#define CONVOLUTION(kind, prefix, a, b, c)                                                                   \
    {kind, prefix##ALPHA, CUDNN_TYPE_FLOAT, 1, 1, true}, {kind, prefix##BETA, CUDNN_TYPE_FLOAT, 1, 1, true}, \
        {kind, prefix##CONV_DESC, handle_type, 1, 1, true}, {kind, prefix##a, handle_type, 1, 1, true},      \
        {kind, prefix##b, handle_type, 1, 1, true}, {                                                        \
        kind, prefix##c, handle_type, 1, 1, true                                                             \
    }
    CONVOLUTION(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_, X, W, Y),
    CONVOLUTION(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_, DX, W, DY),
    CONVOLUTION(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_, X, DW, DY),
#undef CONVOLUTION

    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, handle_type, 1, any, true},

    {CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, 1, true},

    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, handle_type, 1, 1, true},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, 1, true},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, handle_type, 1, 1, true},

    {CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, handle_type, 1, 1, true},
    {CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, 1, true},
    {CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_DEVICEPROP, handle_type, 1, 1, true},
    // Made by finalizing.
    {CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 0, 0,
     false},

    {CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, 1,
     true},
    {CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, 1, true},

    {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_ENGINE, handle_type, 1, 1, true},
    {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, handle_type, 1, any, false},

    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, handle_type, 1, 1,
     true},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, handle_type, 1, 1, true},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 0,
     0, false},

    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 1, any,
     true},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1,
     any, true},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, 1,
     true},
};

const Attribute* find_attribute(int kind, int name) {
    for (const Attribute& a : known)
        if (a.kind == kind && a.name == name) return &a;
    return nullptr;
}

std::size_t bytes_of(int type) {
    switch (type) {
        case CUDNN_TYPE_INT64:
        case CUDNN_TYPE_VOID_PTR:
        case CUDNN_TYPE_BACKEND_DESCRIPTOR:
            return 8;
        case CUDNN_TYPE_BOOLEAN:
            return sizeof(bool);
        default:
            return 4;  // enumerators, float, int32
    }
}

std::shared_ptr<DnnDescriptor> find(const void* handle, const char* call) {
    return state().dnn_descriptors.find(handle, call);
}

std::string name_of(const DnnDescriptor& d, int attribute) {
    return "attribute " + std::to_string(attribute) + " of a descriptor of type " + std::to_string(d.kind);
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
    const char* const call = "cudnnBackendCreateDescriptor";
    return cudnn_api(call, [&] {
        bool is_known = false;
        for (const Attribute& a : known) is_known = is_known || a.kind == type;
        if (!is_known)
            return refuse_cudnn(CUDNN_STATUS_NOT_SUPPORTED, call,
                                "the stand-in does not know descriptor type " + std::to_string(type));
        auto made = std::make_shared<DnnDescriptor>();
        made->kind = type;
        *descriptor = state().dnn_descriptors.insert(std::move(made));
        return CUDNN_STATUS_SUCCESS;
    });
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    const char* const call = "cudnnBackendDestroyDescriptor";
    return cudnn_api(call, [&] {
        if (!find(descriptor, call)) return CUDNN_STATUS_BAD_PARAM;
        state().dnn_descriptors.erase(descriptor);
        return CUDNN_STATUS_SUCCESS;
    });
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
    const char* const call = "cudnnBackendSetAttribute";
    return cudnn_api(call, [&] {
        const auto found = find(descriptor, call);
        if (!found) return CUDNN_STATUS_BAD_PARAM;
        const std::string what = name_of(*found, name);
        const Attribute* const spec = find_attribute(found->kind, name);
        if (spec == nullptr)
            return refuse_cudnn(CUDNN_STATUS_NOT_SUPPORTED, call, "the stand-in does not know " + what);
        if (found->finalized)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call, what + " is set after it was finalized");
        if (spec->most == 0) return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call, what + " can only be read");
        if (spec->type != type)
            return refuse_cudnn(
                CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, call,
                what + " has type " + std::to_string(spec->type) + ", not " + std::to_string(type));
        if (values == nullptr || count < spec->least || count > spec->most)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, call,
                                what + ": " + std::to_string(count) + " values, it has " +
                                    std::to_string(spec->least) + " to " + std::to_string(spec->most));
        DnnDescriptor::Values stored;
        stored.type = type, stored.count = count;
        if (type == handle_type) {
            for (std::int64_t i = 0; i < count; ++i) {
                const auto part = find(static_cast<void* const*>(values)[i], call);
                if (!part) return CUDNN_STATUS_BAD_PARAM;
                if (!part->finalized)
                    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, call,
                                        what + " is a descriptor that is not finalized");
                stored.descriptors.push_back(part);
            }
        } else {
            const auto* const first = static_cast<const std::byte*>(values);
            stored.bytes.assign(first, first + static_cast<std::size_t>(count) * bytes_of(type));
        }
        found->attributes[name] = std::move(stored);
        return CUDNN_STATUS_SUCCESS;
    });
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
    const char* const call = "cudnnBackendFinalize";
    return cudnn_api(call, [&] {
        const auto found = find(descriptor, call);
        if (!found) return CUDNN_STATUS_BAD_PARAM;
        if (found->finalized)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call, "the descriptor is finalized a second time");
        for (const Attribute& a : known)
            if (a.kind == found->kind && a.required && !found->attributes.contains(a.name))
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call, name_of(*found, a.name) + " is not set");
        const cudnnStatus_t status = vgpu::detail::finalize_dnn(*found);
        found->finalized = status == CUDNN_STATUS_SUCCESS;
        return status;
    });
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                                       void* values) {
    const char* const call = "cudnnBackendGetAttribute";
    return cudnn_api(call, [&] {
        const auto found = find(descriptor, call);
        if (!found) return CUDNN_STATUS_BAD_PARAM;
        const std::string what = name_of(*found, name);
        if (!found->finalized)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, call,
                                what + " is read before it is finalized");
        std::vector<std::shared_ptr<DnnDescriptor>> results;
        if (vgpu::detail::dnn_results(found, name, results)) {
            if (type != handle_type)
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, call, what + " are descriptors");
            if (count != nullptr) *count = static_cast<std::int64_t>(results.size());
            for (std::size_t i = 0; i < results.size() && static_cast<std::int64_t>(i) < requested; ++i) {
                const auto into = find(static_cast<void* const*>(values)[i], call);
                if (!into) return CUDNN_STATUS_BAD_PARAM;
                if (into->kind != results[i]->kind || into->finalized)
                    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, call,
                                        what + " is to be read into a fresh descriptor of type " +
                                            std::to_string(results[i]->kind));
                *into = *results[i];
            }
            return CUDNN_STATUS_SUCCESS;
        }
        const auto stored = found->attributes.find(name);
        if (stored == found->attributes.end() || stored->second.type == handle_type)
            return refuse_cudnn(CUDNN_STATUS_NOT_SUPPORTED, call, "the stand-in has nothing for " + what);
        if (stored->second.type != type)
            return refuse_cudnn(
                CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, call,
                what + " has type " + std::to_string(stored->second.type) + ", not " + std::to_string(type));
        if (count != nullptr) *count = stored->second.count;
        const std::size_t copied =
            static_cast<std::size_t>(std::min(requested, stored->second.count)) * bytes_of(type);
        if (copied > 0) std::memcpy(values, stored->second.bytes.data(), copied);
        return CUDNN_STATUS_SUCCESS;
    });
}

}  // extern "C"
