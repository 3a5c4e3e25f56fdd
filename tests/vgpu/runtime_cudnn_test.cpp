// The stand-in for cuDNN's backend API: what it computes, and what it refuses as the library would.
#include <cudnn.h>

#include <array>
#include <cmath>

#include "tests/vgpu/runtime_support.h"
#include "tools/vgpu/kernel.h"

namespace vgpu_test {
namespace {

using vgpu::Fault;

/// y[1, 2, 2, 1] = a 2x2 convolution of x[1, 3, 3, 1], then a bias, unless a test changes something.
class Cudnn : public Runtime {
  protected:
    using Four = std::array<std::int64_t, 4>;
    enum Id : std::int64_t { x_id = 1, w_id, y_id, bias_id, sum_id };

    void SetUp() override {
        Runtime::SetUp();
        ASSERT_EQ(cudnnCreate(&handle), CUDNN_STATUS_SUCCESS);
        x = upload({1, 2, 3, 4, 5, 6, 7, 8, 9}), w = upload({1, 0, 0, 10}), bias = upload({0.5f});
        y = device_array<float>(4);
        workspace = device_array<float>(1 << 14);
    }

    static float* upload(const std::vector<float>& values) {
        auto* const to = device_array<float>(values.size());
        EXPECT_CUDA(cudaMemcpy(to, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
        return to;
    }
    static cudnnBackendDescriptor_t create(cudnnBackendDescriptorType_t type) {
        cudnnBackendDescriptor_t made = nullptr;
        EXPECT_EQ(cudnnBackendCreateDescriptor(type, &made), CUDNN_STATUS_SUCCESS);
        return made;
    }
    static cudnnStatus_t set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                             cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
        return cudnnBackendSetAttribute(d, name, type, count, values);
    }
    template <class Value>
    static void put(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                    cudnnBackendAttributeType_t type, const Value& value) {
        EXPECT_EQ(set(d, name, type, 1, &value), CUDNN_STATUS_SUCCESS) << all_reports();
    }
    template <std::size_t count>
    static void put(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                    const std::array<std::int64_t, count>& values) {
        EXPECT_EQ(set(d, name, CUDNN_TYPE_INT64, count, values.data()), CUDNN_STATUS_SUCCESS);
    }
    static cudnnBackendDescriptor_t final(cudnnBackendDescriptor_t d) {
        EXPECT_EQ(cudnnBackendFinalize(d), CUDNN_STATUS_SUCCESS) << all_reports();
        return d;
    }

    static cudnnBackendDescriptor_t tensor(Id id, const Four& sizes, bool inside = false,
                                           std::int64_t alignment = 16) {
        const auto made = create(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
        put(made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
        put(made, CUDNN_ATTR_TENSOR_DIMENSIONS, sizes);
        put(made, CUDNN_ATTR_TENSOR_STRIDES,
            Four{sizes[1] * sizes[2] * sizes[3], 1, sizes[1] * sizes[3], sizes[1]});
        put(made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, static_cast<std::int64_t>(id));
        put(made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, alignment);
        put(made, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, inside);
        return final(made);
    }
    static cudnnBackendDescriptor_t convolution(std::int64_t padding = 0) {
        const auto made = create(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
        put(made, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2});
        put(made, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
        put(made, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
        put(made, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, std::array<std::int64_t, 2>{padding, padding});
        put(made, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, std::array<std::int64_t, 2>{0, 0});
        put(made, CUDNN_ATTR_CONVOLUTION_DILATIONS, std::array<std::int64_t, 2>{1, 1});
        put(made, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, std::array<std::int64_t, 2>{1, 1});
        return final(made);
    }
    /// Not finalized.
    static cudnnBackendDescriptor_t forward(cudnnBackendDescriptor_t from, cudnnBackendDescriptor_t weight,
                                            cudnnBackendDescriptor_t to, cudnnBackendDescriptor_t conv,
                                            float beta = 0) {
        const auto made = create(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        const auto part = CUDNN_TYPE_BACKEND_DESCRIPTOR;
        put(made, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, part, from);
        put(made, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, part, weight);
        put(made, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, part, to);
        put(made, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, part, conv);
        put(made, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1.0f);
        put(made, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, beta);
        return made;
    }
    static cudnnBackendDescriptor_t add_bias(cudnnBackendDescriptor_t sum, cudnnBackendDescriptor_t to) {
        const auto what = create(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
        put(what, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_ADD);
        put(what, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
        final(what);
        const auto made = create(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
        const auto part = CUDNN_TYPE_BACKEND_DESCRIPTOR;
        put(made, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, part, what);
        put(made, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, part, sum);
        put(made, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, part, tensor(bias_id, {1, 1, 1, 1}, false, 4));
        put(made, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, part, to);
        return final(made);
    }
    static cudnnBackendDescriptor_t graph_of(const std::vector<cudnnBackendDescriptor_t>& operations) {
        const auto made = create(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        EXPECT_EQ(set(made, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      static_cast<std::int64_t>(operations.size()), operations.data()),
                  CUDNN_STATUS_SUCCESS);
        return made;
    }
    static cudnnBackendDescriptor_t plain_graph(float beta = 0) {
        const auto conv = final(forward(tensor(x_id, {1, 1, 3, 3}), tensor(w_id, {1, 1, 2, 2}),
                                        tensor(y_id, {1, 1, 2, 2}), convolution(), beta));
        return final(graph_of({conv}));
    }
    static cudnnBackendDescriptor_t bias_graph() {
        const auto sum = tensor(sum_id, {1, 1, 2, 2}, true);
        const auto conv =
            final(forward(tensor(x_id, {1, 1, 3, 3}), tensor(w_id, {1, 1, 2, 2}), sum, convolution()));
        return final(graph_of({conv, add_bias(sum, tensor(y_id, {1, 1, 2, 2}))}));
    }
    static cudnnBackendDescriptor_t device() {
        const auto made = create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
        put(made, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, std::int32_t{0});
        return final(made);
    }
    static cudnnBackendDescriptor_t engine(cudnnBackendDescriptor_t graph, std::int64_t index) {
        const auto made = create(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        put(made, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, graph);
        put(made, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, index);
        put(made, CUDNN_ATTR_ENGINE_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, device());
        return made;
    }
    /// Of the engine without a workspace (0), or the one on the tensor cores with one (7).
    static cudnnBackendDescriptor_t plan(cudnnBackendDescriptor_t graph, std::int64_t index = 0) {
        const auto configuration = create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        put(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            final(engine(graph, index)));
        final(configuration);
        const auto made = create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        put(made, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, configuration);
        put(made, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, device());
        return final(made);
    }
    cudnnStatus_t run(cudnnBackendDescriptor_t plan, std::vector<std::int64_t> ids,
                      std::vector<void*> pointers, void* scratch = nullptr) {
        const auto pack = create(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, static_cast<std::int64_t>(ids.size()),
            ids.data());
        set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
            static_cast<std::int64_t>(pointers.size()), pointers.data());
        put(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, scratch);
        if (const auto status = cudnnBackendFinalize(pack); status != CUDNN_STATUS_SUCCESS) return status;
        const cudnnStatus_t status = cudnnBackendExecute(handle, plan, pack);
        EXPECT_EQ(cudnnBackendDestroyDescriptor(pack), CUDNN_STATUS_SUCCESS);
        return status;
    }
    cudnnStatus_t run(cudnnBackendDescriptor_t plan) { return run(plan, {x_id, w_id, y_id}, {x, w, y}); }
    std::vector<float> result() { return to_host(y, 4); }
    std::string last_report() {
        const auto all = vgpu::reports();
        return all.empty() ? "" : all.back().text;
    }
    void expect_reported(const char* words) {
        EXPECT_NE(last_report().find(words), std::string::npos) << last_report();
    }

    cudnnHandle_t handle = nullptr;
    float *x = nullptr, *w = nullptr, *y = nullptr, *bias = nullptr, *workspace = nullptr;
};

TEST_F(Cudnn, Convolves) {
    EXPECT_EQ(run(plan(plain_graph())), CUDNN_STATUS_SUCCESS) << all_reports();
    EXPECT_EQ(result(), (std::vector<float>{51, 62, 84, 95}));
    EXPECT_EQ(run(plan(plain_graph(1))), CUDNN_STATUS_SUCCESS) << "adds to what is there";
    EXPECT_EQ(result(), (std::vector<float>{102, 124, 168, 190}));
    EXPECT_EQ(vgpu::report_count(), 0u) << all_reports();
}

TEST_F(Cudnn, AddsABias) {
    EXPECT_EQ(run(plan(bias_graph()), {x_id, w_id, bias_id, y_id}, {x, w, bias, y}), CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(result(), (std::vector<float>{51.5f, 62.5f, 84.5f, 95.5f}));
    EXPECT_EQ(vgpu::report_count(), 0u) << all_reports();
}

TEST_F(Cudnn, TensorCoresRoundFloat32) {
    x = upload(std::vector<float>(9, 1 + 0x1p-20f)), w = upload({1, 0, 0, 0});
    EXPECT_EQ(run(plan(plain_graph())), CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(result()[0], 1 + 0x1p-20f);
    EXPECT_EQ(run(plan(plain_graph(), 7), {x_id, w_id, y_id}, {x, w, y}, workspace), CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(result()[0], 1.0f);
}

TEST_F(Cudnn, HeuristicsNameEnginesWithTheirNotes) {
    const auto heuristics = create(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    put(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, plain_graph());
    put(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    put(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, device());
    final(heuristics);
    std::int64_t count = 0;
    ASSERT_EQ(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
              CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(count, 6);
    // The first one that is named gives other bits at every run, which its notes say.
    auto configuration = create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    ASSERT_EQ(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &configuration),
              CUDNN_STATUS_SUCCESS);
    auto named = create(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    ASSERT_EQ(cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &named),
              CUDNN_STATUS_SUCCESS);
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT] = {};
    ASSERT_EQ(cudnnBackendGetAttribute(named, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                       CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes),
              CUDNN_STATUS_SUCCESS);
    ASSERT_EQ(count, 2);
    EXPECT_EQ(notes[1], CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    EXPECT_EQ(vgpu::report_count(), 0u) << all_reports();
}

TEST_F(Cudnn, AttributesHaveATypeAndACount) {
    const auto d = create(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const std::int64_t four[4] = {1, 1, 2, 2};
    const float number = 1;
    EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT32, 4, four),
              CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
    EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 3, four),
              CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
    EXPECT_EQ(set(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, four),
              CUDNN_STATUS_NOT_SUPPORTED);
    EXPECT_EQ(set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, 1, &number),
              CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
    EXPECT_EQ(cudnnBackendFinalize(d), CUDNN_STATUS_BAD_PARAM);
    expect_reported("is not set");
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "no error of the runtime";
}

TEST_F(Cudnn, PartsAreFinalizedFirst) {
    const auto open = create(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const auto made = create(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    EXPECT_EQ(set(made, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &open),
              CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
    std::int64_t count = 0, value = 0;
    EXPECT_EQ(
        cudnnBackendGetAttribute(open, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &count, &value),
        CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
    const auto closed = tensor(x_id, {1, 1, 3, 3});
    EXPECT_EQ(set(closed, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &value), CUDNN_STATUS_BAD_PARAM);
    expect_reported("after it was finalized");
    EXPECT_EQ(cudnnBackendFinalize(closed), CUDNN_STATUS_BAD_PARAM);
}

TEST_F(Cudnn, AGraphFitsTogether) {
    // A padding that the output's size knows nothing of.
    EXPECT_EQ(cudnnBackendFinalize(forward(tensor(x_id, {1, 1, 3, 3}), tensor(w_id, {1, 1, 2, 2}),
                                           tensor(y_id, {1, 1, 2, 2}), convolution(1))),
              CUDNN_STATUS_BAD_PARAM);
    expect_reported("another size");
    EXPECT_EQ(cudnnBackendFinalize(forward(tensor(x_id, {1, 1, 3, 3}), tensor(w_id, {1, 3, 2, 2}),
                                           tensor(y_id, {1, 1, 2, 2}), convolution())),
              CUDNN_STATUS_BAD_PARAM);
    expect_reported("channels differ");
    // One id for two tensors; a result that is never read.
    EXPECT_EQ(
        cudnnBackendFinalize(graph_of({final(forward(tensor(x_id, {1, 1, 3, 3}), tensor(x_id, {1, 1, 2, 2}),
                                                     tensor(y_id, {1, 1, 2, 2}), convolution()))})),
        CUDNN_STATUS_BAD_PARAM);
    expect_reported("one id");
    EXPECT_EQ(
        cudnnBackendFinalize(graph_of({final(forward(tensor(x_id, {1, 1, 3, 3}), tensor(w_id, {1, 1, 2, 2}),
                                                     tensor(y_id, {1, 1, 2, 2}, true), convolution()))})),
        CUDNN_STATUS_BAD_PARAM);
    expect_reported("kept inside");
}

TEST_F(Cudnn, UnknownEnginesAreDeclinedWithoutAReport) {
    EXPECT_EQ(cudnnBackendFinalize(engine(plain_graph(), 5)), CUDNN_STATUS_NOT_SUPPORTED);
    EXPECT_EQ(vgpu::report_count(), 0u) << all_reports();
    char words[100];
    cudnnGetLastErrorString(words, sizeof(words));
    EXPECT_STREQ(words, "no engine 5 here");
}

TEST_F(Cudnn, TheVariantPackIsChecked) {
    const auto plain = plan(plain_graph());
    EXPECT_EQ(run(plain, {x_id, w_id}, {x, w}), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    expect_reported("no address for tensor 3");
    EXPECT_EQ(run(plain, {x_id, w_id, y_id, bias_id}, {x, w, y, bias}), CUDNN_STATUS_BAD_PARAM);
    expect_reported("has a tensor that the graph has not");
    EXPECT_EQ(run(plain, {x_id, w_id, y_id}, {x, w}), CUDNN_STATUS_BAD_PARAM);
    EXPECT_EQ(run(plain, {x_id, w_id, x_id}, {x, w, y}), CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES);
    EXPECT_EQ(run(plain, {x_id, w_id, y_id}, {x + 1, w, y}), CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    EXPECT_EQ(run(plain, {x_id, w_id, y_id}, {x, w, x}), CUDNN_STATUS_BAD_PARAM);
    expect_reported("the result lies where");
    EXPECT_EQ(run(plan(plain_graph(), 7)), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    expect_reported("workspace");
}

TEST_F(Cudnn, ItsAccessesAreCheckedLikeAKernels) {
    x = device_array<float>(8);  // one too few, and never written
    EXPECT_EQ(run(plan(plain_graph())), CUDNN_STATUS_SUCCESS);
    EXPECT_NE(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(vgpu::report_count(), 1u) << all_reports();
    vgpu::reset();
}

TEST_F(Cudnn, BytesAreCounted) {
    const auto plain = plan(plain_graph());
    vgpu::reset_counters();
    vgpu::enable_counters(true);
    EXPECT_EQ(run(plain), CUDNN_STATUS_SUCCESS);
    EXPECT_CUDA(cudaDeviceSynchronize());
    vgpu::enable_counters(false);
    ASSERT_EQ(vgpu::counters().size(), 1u);
    EXPECT_EQ(vgpu::counters()[0].unique_bytes_read, (9 + 4) * sizeof(float));
    EXPECT_EQ(vgpu::counters()[0].unique_bytes_written, 4 * sizeof(float));
}

TEST_F(Cudnn, DescriptorsThatAreLeftAreLeaks) {
    const auto left = [] {
        for (const vgpu::Leak& leak : vgpu::leaks())
            if (leak.what == "cuDNN descriptor") return leak.count;
        return std::size_t{0};
    };
    const auto d = tensor(x_id, {1, 1, 3, 3});
    EXPECT_EQ(left(), 1u);
    EXPECT_EQ(cudnnBackendDestroyDescriptor(d), CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(left(), 0u);
    EXPECT_NE(cudnnBackendDestroyDescriptor(d), CUDNN_STATUS_SUCCESS) << "a second time";
    EXPECT_EQ(count(Fault::bad_handle), 1u);
}

}  // namespace
}  // namespace vgpu_test
