// The matrix product by cuBLASLt. The library's matrices lie column by column: a row-major matrix is to it the transpose, so it
// is asked for out' = b a' (' transposes) with the factors changed places.

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <type_traits>

#include "kernels/linear/linear_product.h"
#include "kernels/runtime/error.h"
#include "kernels/runtime/plan_cache.h"
#include "kernels/runtime/scratch.h"

namespace ito::kernels::linear_detail {
namespace {

void check(cublasStatus_t status, const char* call) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    throw Error(std::string(call) + ": status " + std::to_string(static_cast<int>(status)));
}

template <class Descriptor, cublasStatus_t (*destroy)(Descriptor*)>
struct Destroy {
    void operator()(Descriptor* descriptor) const { destroy(descriptor); }
};
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t,
                               Destroy<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>>;
using MatmulDescriptor = std::unique_ptr<cublasLtMatmulDescOpaque_t,
                                         Destroy<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                    Destroy<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy>>;

template <class T>
constexpr cudaDataType library_type = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

/// A row-major matrix of `rows` rows, as the library sees it.
Layout layout(cudaDataType type, std::int64_t rows, std::int64_t columns, std::int64_t pitch) {
    cublasLtMatrixLayout_t made = nullptr;
    // One row has no pitch that anybody would look at, but the library wants a possible one.
    check(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(columns),
                                     static_cast<std::uint64_t>(rows), std::max(pitch, columns)),
          "cublasLtMatrixLayoutCreate");
    return Layout(made);
}

template <class Value>
void set(const MatmulDescriptor& descriptor, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    check(cublasLtMatmulDescSetAttribute(descriptor.get(), attribute, &value, sizeof(value)),
          "cublasLtMatmulDescSetAttribute");
}
template <class Value>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
          "cublasLtMatmulPreferenceSetAttribute");
}

/// What an algorithm may use for partial sums: as much as NVIDIA's cuBLAS takes for itself before Hopper.
constexpr std::size_t most_workspace = 4 << 20;

/// The power of two that the address is a multiple of, at most 256.
std::int64_t alignment_of(const void* pointer) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    return address == 0 ? 256 : std::min<std::int64_t>(std::int64_t{1} << std::countr_zero(address), 256);
}

/// All that the choice of an algorithm depends on.
struct Key {
    std::int64_t rows, columns, reduced, a_pitch, b_pitch, addend_pitch, out_pitch;
    std::int64_t a_alignment, b_alignment, addend_alignment, out_alignment, vector_alignment;
    std::int64_t bfloat, epilogue, tf32;
};

/// What the library prepared for a key; `usable` is false where it has no algorithm.
template <class T, Operation op>
struct Plan {
    MatmulDescriptor descriptor;
    Layout a, b, addend, out;
    cublasLtMatmulAlgo_t algorithm{};
    std::size_t workspace = 0;  ///< bytes that the algorithm needs
    bool usable = false;

    Plan(cublasLtHandle_t handle, const Product<T, op>& p, const Key& key, const void* vector) {
        constexpr cudaDataType type = library_type<T>, result = library_type<result_t<T, op>>;
        cublasLtMatmulDesc_t made = nullptr;
        // Strict float32 unless TF32 is asked for by name.
        check(cublasLtMatmulDescCreate(
                  &made, key.tf32 != 0 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
              "cublasLtMatmulDescCreate");
        descriptor.reset(made);
        set(descriptor, CUBLASLT_MATMUL_DESC_TRANSA, b_by_rows(op) ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(descriptor, CUBLASLT_MATMUL_DESC_TRANSB, a_by_rows(op) ? CUBLAS_OP_N : CUBLAS_OP_T);
        set(descriptor, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(key.epilogue));
        if (key.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
            set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(result));
            // Its alignment counts when an algorithm is chosen.
            set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
        }
        a = a_by_rows(op) ? layout(type, p.rows, p.reduced, p.a_pitch)
                          : layout(type, p.reduced, p.rows, p.a_pitch);
        b = b_by_rows(op) ? layout(type, p.columns, p.reduced, p.b_pitch)
                          : layout(type, p.reduced, p.columns, p.b_pitch);
        out = layout(result, p.rows, p.columns, p.out_pitch);
        addend = layout(result, p.rows, p.columns, p.addend != nullptr ? p.addend_pitch : p.out_pitch);
        cublasLtMatmulPreference_t preference_made = nullptr;
        check(cublasLtMatmulPreferenceCreate(&preference_made), "cublasLtMatmulPreferenceCreate");
        const Preference preference(preference_made);
        set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(most_workspace));
        // Partial sums in float32, added by a launch of their own in a fixed order: not in place, in the order of arrival.
        set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        const auto align = [&](cublasLtMatmulPreferenceAttributes_t attribute, std::int64_t bytes) {
            set(preference, attribute, static_cast<std::uint32_t>(bytes));
        };
        align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b_alignment);
        align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a_alignment);
        align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.addend_alignment);
        align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.out_alignment);
        cublasLtMatmulHeuristicResult_t found{};
        int count = 0;
        const cublasStatus_t status =
            cublasLtMatmulAlgoGetHeuristic(handle, descriptor.get(), b.get(), a.get(), addend.get(),
                                           out.get(), preference.get(), 1, &found, &count);
        if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic");
        usable = status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
        algorithm = found.algo;
        workspace = found.workspaceSize;
    }
};

}  // namespace

template <class T, Operation op>
bool product_vendor(const Context& context, const Product<T, op>& p, const void* vector, bool tf32) {
    if (p.rows <= 0 || p.columns <= 0 || p.reduced <= 0) return false;
    auto* const handle = static_cast<cublasLtHandle_t>(context.cublaslt());
    if (handle == nullptr) return false;
    const auto epilogue = vector == nullptr          ? CUBLASLT_EPILOGUE_DEFAULT
                          : op == Operation::forward ? CUBLASLT_EPILOGUE_BIAS
                                                     : CUBLASLT_EPILOGUE_BGRADB;
    const void* const addend = p.addend != nullptr ? p.addend : p.out;
    const std::int64_t addend_pitch = p.addend != nullptr ? p.addend_pitch : p.out_pitch;
    const Key key{p.rows,
                  p.columns,
                  p.reduced,
                  p.a_pitch,
                  p.b_pitch,
                  addend_pitch,
                  p.out_pitch,
                  alignment_of(p.a),
                  alignment_of(p.b),
                  alignment_of(addend),
                  alignment_of(p.out),
                  alignment_of(vector),
                  std::is_same_v<T, bfloat16>,
                  epilogue,
                  std::is_same_v<T, float> && tf32};
    PlanCache local;
    PlanCache& plans = context.plans != nullptr ? *context.plans : local;
    Plan<T, op>& plan = plans.get<Plan<T, op>>(
        name_of(op), key, [&] { return std::make_shared<Plan<T, op>>(handle, p, key, vector); });
    if (!plan.usable) return false;
    if (vector != nullptr) set(plan.descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    const Scratch<std::byte> workspace(context, static_cast<std::int64_t>(plan.workspace));
    const float one = 1, beta = p.addend != nullptr ? 1.0f : 0.0f;
    check(cublasLtMatmul(handle, plan.descriptor.get(), &one, p.b, plan.b.get(), p.a, plan.a.get(), &beta,
                         addend, plan.addend.get(), p.out, plan.out.get(), &plan.algorithm, workspace.get(),
                         plan.workspace, static_cast<cudaStream_t>(context.stream.handle)),
          "cublasLtMatmul");
    return true;
}

#define ITO_INSTANTIATE(T, op) \
    template bool product_vendor(const Context&, const Product<T, Operation::op>&, const void*, bool)
ITO_INSTANTIATE(float, forward);
ITO_INSTANTIATE(float, backward_data);
ITO_INSTANTIATE(float, backward_weights);
ITO_INSTANTIATE(bfloat16, forward);
ITO_INSTANTIATE(bfloat16, backward_data);
ITO_INSTANTIATE(bfloat16, backward_weights);

}  // namespace ito::kernels::linear_detail
