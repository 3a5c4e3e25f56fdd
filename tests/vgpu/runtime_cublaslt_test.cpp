// The stand-in for cuBLASLt: what it computes, and what it refuses as the library would.
#include <cublasLt.h>

#include "tests/vgpu/runtime_support.h"
#include "tools/vgpu/kernel.h"

namespace vgpu_test {
namespace {

using vgpu::Fault;

/// D[2, 3] = A[2, 4] * B[4, 3], column by column, dense unless a test changes something.
class CublasLt : public Runtime {
  protected:
    static constexpr int m = 2, n = 3, k = 4;

    void SetUp() override {
        Runtime::SetUp();
        ASSERT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
        ASSERT_EQ(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                  CUBLAS_STATUS_SUCCESS);
        ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
        layout(a, m, k, m), layout(b, k, n, k), layout(d, m, n, m);
        a_data = upload({1, 2, 3, 4, 5, 6, 7, 8});
        b_data = upload({1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1});
        d_data = device_array<float>(m * n);
        workspace = device_array<float>(1 << 14);
        set_workspace(1 << 16);
    }

    static float* upload(const std::vector<float>& values) {
        auto* const to = device_array<float>(values.size());
        EXPECT_CUDA(cudaMemcpy(to, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
        return to;
    }
    static void layout(cublasLtMatrixLayout_t& made, int rows, int columns, int leading,
                       cudaDataType type = CUDA_R_32F) {
        ASSERT_EQ(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows),
                                             static_cast<std::uint64_t>(columns), leading),
                  CUBLAS_STATUS_SUCCESS);
    }
    void set_workspace(std::uint64_t bytes) {
        ASSERT_EQ(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                       &bytes, sizeof(bytes)),
                  CUBLAS_STATUS_SUCCESS);
    }
    template <class Value>
    cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, Value value) {
        return cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value));
    }
    cublasStatus_t choose() {
        int count = 0;
        const cublasStatus_t status =
            cublasLtMatmulAlgoGetHeuristic(handle, operation, a, b, d, d, preference, 1, &result, &count);
        EXPECT_EQ(count, status == CUBLAS_STATUS_SUCCESS ? 1 : 0);
        return status;
    }
    cublasStatus_t multiply(float beta = 0, void* scratch = nullptr, std::size_t bytes = 1 << 16) {
        const float alpha = 1;
        return cublasLtMatmul(handle, operation, &alpha, a_data, a, b_data, b, &beta, d_data, d, d_data, d,
                              &result.algo, scratch != nullptr ? scratch : workspace, bytes, nullptr);
    }
    std::vector<float> product() {
        std::vector<float> host(m * n);
        EXPECT_CUDA(cudaMemcpy(host.data(), d_data, host.size() * sizeof(float), cudaMemcpyDeviceToHost));
        return host;
    }
    std::string last_report() {
        const auto all = vgpu::reports();
        return all.empty() ? "" : all.back().text;
    }

    cublasLtHandle_t handle = nullptr;
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    cublasLtMatmulHeuristicResult_t result{};
    float *a_data = nullptr, *b_data = nullptr, *d_data = nullptr, *workspace = nullptr;
};

TEST_F(CublasLt, Multiplies) {
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(product(), (std::vector<float>{1, 2, 3, 4, 16, 20}));
    EXPECT_EQ(multiply(1), CUBLAS_STATUS_SUCCESS) << "adds to what is there";
    EXPECT_EQ(product(), (std::vector<float>{2, 4, 6, 8, 32, 40}));
    EXPECT_EQ(vgpu::report_count(), 0u) << all_reports();
}

TEST_F(CublasLt, TransposesAndAddsABias) {
    // The same numbers read as 4x2.
    layout(a, k, m, k);
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(upload({100, 200}))),
              CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(product(), (std::vector<float>{101, 205, 102, 206, 110, 226}));
}

TEST_F(CublasLt, SumsTheSecondFactor) {
    auto* const sums = device_array<float>(n);
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BGRADB), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(sums)), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    std::vector<float> host(n);
    EXPECT_CUDA(cudaMemcpy(host.data(), sums, n * sizeof(float), cudaMemcpyDeviceToHost));
    EXPECT_EQ(host, (std::vector<float>{1, 1, 4}));
}

TEST_F(CublasLt, RoundsFactorsToTf32OnlyWhenAsked) {
    const float exact = 1.0f + 0x1p-20f;
    a_data = upload({exact, exact, 0, 0, 0, 0, 0, 0});
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(product()[0], exact);
    ASSERT_EQ(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F),
              CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(product()[0], 1.0f);
}

TEST_F(CublasLt, TheHeuristicHasNothingForWhatTheLibraryRefuses) {
    const auto refused = [&] {
        EXPECT_EQ(choose(), CUBLAS_STATUS_NOT_SUPPORTED);
        EXPECT_EQ(multiply(), CUBLAS_STATUS_NOT_SUPPORTED);
        return last_report();
    };
    cublasLtMatrixLayout_t good = a;
    layout(a, m, k + 1, m);
    EXPECT_NE(refused().find("inner dimensions differ"), std::string::npos) << last_report();
    layout(a, m, k, m - 1);
    EXPECT_NE(refused().find("leading dimension is only 1"), std::string::npos) << last_report();
    layout(a, m, k, m, CUDA_R_16BF);
    EXPECT_NE(refused().find("both be float32 or both bfloat16"), std::string::npos) << last_report();
    layout(a, m, k, m, CUDA_R_64F);
    EXPECT_NE(refused().find("both be float32"), std::string::npos) << last_report();
    a = good;
    good = d;
    layout(d, n, m, n);
    EXPECT_NE(refused().find("expected 2x3"), std::string::npos) << last_report();
    d = good;
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF), CUBLAS_STATUS_SUCCESS);
    EXPECT_NE(refused().find("of D's type"), std::string::npos) << last_report();
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU), CUBLAS_STATUS_SUCCESS);
    EXPECT_NE(refused().find("epilogue 32"), std::string::npos) << last_report();
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "no error of the runtime";
}

TEST_F(CublasLt, TheProductChecksWhatTheAlgorithmWasChosenFor) {
    EXPECT_EQ(multiply(), CUBLAS_STATUS_INVALID_VALUE) << "no algorithm was chosen";
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(multiply(0, workspace, 1000), CUBLAS_STATUS_NOT_SUPPORTED) << "a small workspace";
    EXPECT_EQ(multiply(0, workspace + 1), CUBLAS_STATUS_INVALID_VALUE) << "a workspace that is not aligned";
    a_data += 1;
    EXPECT_EQ(multiply(), CUBLAS_STATUS_NOT_SUPPORTED) << "chosen for 256 bytes";
    a_data -= 1;
    EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(multiply(), CUBLAS_STATUS_INVALID_VALUE) << "no bias";
}

TEST_F(CublasLt, SeveralAlgorithmsAreNamedAndKnownAgain) {
    cublasLtMatmulHeuristicResult_t results[8] = {};
    int count = 0;
    ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(handle, operation, a, b, d, d, preference, 8, results, &count),
              CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(count, 3);
    for (int i = 0; i < count; ++i) {
        cublasLtMatmulHeuristicResult_t known{};
        EXPECT_EQ(cublasLtMatmulAlgoCheck(handle, operation, a, b, d, d, &results[i].algo, &known),
                  CUBLAS_STATUS_SUCCESS);
        EXPECT_EQ(known.workspaceSize, results[i].workspaceSize);
    }
    EXPECT_EQ(results[2].workspaceSize, 0u);
    const cublasLtMatmulAlgo_t unknown{};
    EXPECT_NE(cublasLtMatmulAlgoCheck(handle, operation, a, b, d, d, &unknown, results),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(vgpu::report_count(), 0u) << all_reports();
}

TEST_F(CublasLt, ItsAccessesAreCheckedLikeAKernels) {
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    b_data = device_array<float>(k * n);  // never written
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    EXPECT_NE(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(count(Fault::uninitialised), 1u) << all_reports();
    vgpu::reset();
}

TEST_F(CublasLt, BytesAreCounted) {
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    vgpu::reset_counters();
    vgpu::enable_counters(true);
    EXPECT_EQ(multiply(), CUBLAS_STATUS_SUCCESS);
    EXPECT_CUDA(cudaDeviceSynchronize());
    vgpu::enable_counters(false);
    ASSERT_EQ(vgpu::counters().size(), 1u);
    EXPECT_EQ(vgpu::counters()[0].unique_bytes_read, (m * k + k * n) * sizeof(float));
    EXPECT_EQ(vgpu::counters()[0].unique_bytes_written, m * n * sizeof(float));
}

TEST_F(CublasLt, DescriptorsThatAreLeftAreLeaks) {
    const auto left = [] {
        for (const vgpu::Leak& leak : vgpu::leaks())
            if (leak.what == "cuBLASLt descriptor") return leak.count;
        return std::size_t{0};
    };
    EXPECT_EQ(left(), 5u);  // three layouts, the operation, the preference
    EXPECT_EQ(cublasLtMatrixLayoutDestroy(a), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescDestroy(operation), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulPreferenceDestroy(preference), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(left(), 2u);
    EXPECT_NE(cublasLtMatrixLayoutDestroy(a), CUBLAS_STATUS_SUCCESS) << "a second time";
    EXPECT_EQ(count(Fault::bad_handle), 1u);
}

}  // namespace
}  // namespace vgpu_test
