// The GEMM by cuBLASLt. The library's matrices lie column by column: it takes a row-major matrix for the transpose, so it is asked
// for out' = b' a'.

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdio>
#include <memory>
#include <string>
#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/common/plan_cache.h"
#include "kernels/common/scratch.h"
#include "kernels/cuda/choose.h"
#include "kernels/linear/linear_product.h"

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

/// A row-major matrix, as the library sees it.
template <class T>
Layout layout(const View<T>& m) {
    cublasLtMatrixLayout_t made = nullptr;
    // The row stride of a single row may be anything, but the library refuses one below the columns.
    check(cublasLtMatrixLayoutCreate(&made, library_type<std::remove_const_t<T>>,
                                     static_cast<std::uint64_t>(m.columns),
                                     static_cast<std::uint64_t>(m.rows), std::max(m.stride, m.columns)),
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

/// All that the choice of an algorithm depends on.
struct Key {
    std::int64_t rows, columns, k, a_stride, b_stride, addend_stride, out_stride;
    std::int64_t alignment, bfloat, epilogue, tf32;
};

/// Algorithms that the heuristics are asked for.
constexpr int most_algorithms = 8;
static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(CublasLtAlgorithm::words));

/// What the library prepared for a key.
template <class T, Operation op>
struct Plan {
    MatmulDescriptor descriptor;
    Layout a, b, addend, out;
    std::vector<CublasLtAlgorithm> algorithms;

    Plan(cublasLtHandle_t handle, const Product<T, op>& p, const Key& key, const void* vector) {
        cublasLtMatmulDesc_t made = nullptr;
        check(cublasLtMatmulDescCreate(
                  &made, key.tf32 != 0 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
              "cublasLtMatmulDescCreate");
        descriptor.reset(made);
        set(descriptor, CUBLASLT_MATMUL_DESC_TRANSA, b_by_rows(op) ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(descriptor, CUBLASLT_MATMUL_DESC_TRANSB, a_by_rows(op) ? CUBLAS_OP_N : CUBLAS_OP_T);
        set(descriptor, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(key.epilogue));
        if (key.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
            set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                static_cast<std::int32_t>(library_type<result_t<T, op>>));
            // Its alignment counts when an algorithm is chosen.
            set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
        }
        a = layout(p.a), b = layout(p.b), out = layout(p.out);
        addend = p.addend ? layout(p.addend) : layout(p.out);
        cublasLtMatmulPreference_t preference_made = nullptr;
        check(cublasLtMatmulPreferenceCreate(&preference_made), "cublasLtMatmulPreferenceCreate");
        const Preference preference(preference_made);
        set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(most_workspace));
        // Partial sums in float32, added by a launch of their own in a fixed order: not in place, in the order of arrival.
        set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        for (const auto attribute :
             {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            set(preference, attribute, static_cast<std::uint32_t>(key.alignment));
        cublasLtMatmulHeuristicResult_t found[most_algorithms] = {};
        int count = 0;
        const cublasStatus_t status =
            cublasLtMatmulAlgoGetHeuristic(handle, descriptor.get(), b.get(), a.get(), addend.get(),
                                           out.get(), preference.get(), most_algorithms, found, &count);
        if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
        check(status, "cublasLtMatmulAlgoGetHeuristic");
        for (int i = 0; i < count; ++i)
            if (found[i].state == CUBLAS_STATUS_SUCCESS)
                algorithms.push_back({std::bit_cast<decltype(CublasLtAlgorithm::words)>(found[i].algo),
                                      found[i].workspaceSize});
    }
};

/// The plan of a product; null where there is none.
template <class T, Operation op>
Plan<T, op>* plan_of(const Context& context, const Product<T, op>& p, const void* vector) {
    if (p.empty() || context.plans == nullptr) return nullptr;
    auto* const handle = static_cast<cublasLtHandle_t>(context.cublaslt());
    if (handle == nullptr) return nullptr;
    const auto epilogue = vector == nullptr          ? CUBLASLT_EPILOGUE_DEFAULT
                          : op == Operation::forward ? CUBLASLT_EPILOGUE_BIAS
                                                     : CUBLASLT_EPILOGUE_BGRADB;
    const Key key{p.rows,
                  p.columns,
                  p.k,
                  p.a.stride,
                  p.b.stride,
                  p.addend ? p.addend.stride : p.out.stride,
                  p.out.stride,
                  common_alignment({p.a.data, p.b.data, p.addend.data, p.out.data, vector}),
                  std::is_same_v<T, bfloat16>,
                  epilogue,
                  std::is_same_v<T, float> && context.math == MathMode::tf32};
    return &context.plans->get<Plan<T, op>>(
        name_of(op), key, [&] { return std::make_shared<Plan<T, op>>(handle, p, key, vector); });
}

}  // namespace

std::string CublasLtAlgorithm::text() const {
    std::string made;
    for (const std::uint64_t word : words) {
        char digits[17];
        std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(word));
        made += digits;
    }
    return made;
}

std::optional<CublasLtAlgorithm> CublasLtAlgorithm::parse(std::string_view text) {
    CublasLtAlgorithm made;
    if (text.size() != 16 * made.words.size()) return std::nullopt;
    for (std::uint64_t& word : made.words) {
        const auto [end, error] = std::from_chars(text.data(), text.data() + 16, word, 16);
        if (error != std::errc() || end != text.data() + 16) return std::nullopt;
        text.remove_prefix(16);
    }
    return made;
}

template <class T, Operation op>
const std::vector<CublasLtAlgorithm>& cublaslt_algorithms(const Context& context, const Product<T, op>& p,
                                                          const void* vector) {
    static const std::vector<CublasLtAlgorithm> none;
    const Plan<T, op>* const plan = plan_of(context, p, vector);
    return plan != nullptr ? plan->algorithms : none;
}

template <class T, Operation op>
bool cublaslt_knows(const Context& context, const Product<T, op>& p, const void* vector,
                    CublasLtAlgorithm& algorithm) {
    const Plan<T, op>* const plan = plan_of(context, p, vector);
    if (plan == nullptr) return false;
    if (vector != nullptr) set(plan->descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    const auto asked = std::bit_cast<cublasLtMatmulAlgo_t>(algorithm.words);
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(
        static_cast<cublasLtHandle_t>(context.cublaslt()), plan->descriptor.get(), plan->b.get(),
        plan->a.get(), plan->addend.get(), plan->out.get(), &asked, &result);
    algorithm.workspace = result.workspaceSize;
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= most_workspace;
}

template <class T, Operation op>
void product_cublaslt(const Context& context, const Product<T, op>& p, const void* vector,
                      const CublasLtAlgorithm& algorithm) {
    const Plan<T, op>& plan = *plan_of(context, p, vector);
    if (vector != nullptr) set(plan.descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    const Scratch<std::byte> workspace(context, static_cast<std::int64_t>(algorithm.workspace));
    const auto chosen = std::bit_cast<cublasLtMatmulAlgo_t>(algorithm.words);
    const float one = 1, beta = p.addend ? 1.0f : 0.0f;
    const auto* const addend = p.addend ? p.addend.data : p.out.data;
    check(cublasLtMatmul(static_cast<cublasLtHandle_t>(context.cublaslt()), plan.descriptor.get(), &one,
                         p.b.data, plan.b.get(), p.a.data, plan.a.get(), &beta, addend, plan.addend.get(),
                         p.out.data, plan.out.get(), &chosen, workspace.get(), algorithm.workspace,
                         static_cast<cudaStream_t>(context.stream.handle)),
          "cublasLtMatmul");
}

#define ITO_CUBLASLT(T, op)                                                                       \
    template const std::vector<CublasLtAlgorithm>& cublaslt_algorithms(                           \
        const Context&, const Product<T, Operation::op>&, const void*);                           \
    template bool cublaslt_knows(const Context&, const Product<T, Operation::op>&, const void*,   \
                                 CublasLtAlgorithm&);                                             \
    template void product_cublaslt(const Context&, const Product<T, Operation::op>&, const void*, \
                                   const CublasLtAlgorithm&)
ITO_FOR_PRODUCTS(ITO_CUBLASLT);

}  // namespace ito::kernels::linear_detail
