// The matrix product by cuBLASLt. The library's matrices lie column by column: a row-major matrix is to it the transpose, so it
// is asked for out' = b a' (' transposes) with the factors changed places.

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

#include "kernels/common/error.h"
#include "kernels/common/plan_cache.h"
#include "kernels/common/scratch.h"
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

/// A row-major matrix of `rows` rows, as the library sees it.
Layout layout(cudaDataType type, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
    cublasLtMatrixLayout_t made = nullptr;
    // One row has no row stride that anybody would look at, but the library wants a possible one.
    check(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(columns),
                                     static_cast<std::uint64_t>(rows), std::max(stride, columns)),
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

/// The power of two that all addresses are multiples of, at most 16: no algorithm asks for more.
std::int64_t common_alignment(std::initializer_list<const void*> pointers) {
    std::uintptr_t all = 16;
    for (const void* pointer : pointers) all |= reinterpret_cast<std::uintptr_t>(pointer);
    return static_cast<std::int64_t>(all & (~all + 1));
}

/// All that the choice of an algorithm depends on.
struct Key {
    std::int64_t rows, columns, reduced, a_stride, b_stride, addend_stride, out_stride;
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
        a = a_by_rows(op) ? layout(type, p.rows, p.reduced, p.a_stride)
                          : layout(type, p.reduced, p.rows, p.a_stride);
        b = b_by_rows(op) ? layout(type, p.columns, p.reduced, p.b_stride)
                          : layout(type, p.reduced, p.columns, p.b_stride);
        out = layout(result, p.rows, p.columns, p.out_stride);
        addend = layout(result, p.rows, p.columns, p.addend != nullptr ? p.addend_stride : p.out_stride);
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
Plan<T, op>* plan_of(const Context& context, const Product<T, op>& p, const void* vector, bool tf32) {
    if (p.rows <= 0 || p.columns <= 0 || p.reduced <= 0 || context.plans == nullptr) return nullptr;
    auto* const handle = static_cast<cublasLtHandle_t>(context.cublaslt());
    if (handle == nullptr) return nullptr;
    const auto epilogue = vector == nullptr          ? CUBLASLT_EPILOGUE_DEFAULT
                          : op == Operation::forward ? CUBLASLT_EPILOGUE_BIAS
                                                     : CUBLASLT_EPILOGUE_BGRADB;
    const void* const addend = p.addend != nullptr ? p.addend : p.out;
    const std::int64_t addend_stride = p.addend != nullptr ? p.addend_stride : p.out_stride;
    const Key key{p.rows,
                  p.columns,
                  p.reduced,
                  p.a_stride,
                  p.b_stride,
                  addend_stride,
                  p.out_stride,
                  common_alignment({p.a, p.b, addend, p.out, vector}),
                  std::is_same_v<T, bfloat16>,
                  epilogue,
                  std::is_same_v<T, float> && tf32};
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
                                                          const void* vector, bool tf32) {
    static const std::vector<CublasLtAlgorithm> none;
    const Plan<T, op>* const plan = plan_of(context, p, vector, tf32);
    return plan != nullptr ? plan->algorithms : none;
}

template <class T, Operation op>
bool cublaslt_knows(const Context& context, const Product<T, op>& p, const void* vector, bool tf32,
                    CublasLtAlgorithm& algorithm) {
    const Plan<T, op>* const plan = plan_of(context, p, vector, tf32);
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
void product_cublaslt(const Context& context, const Product<T, op>& p, const void* vector, bool tf32,
                      const CublasLtAlgorithm& algorithm) {
    const Plan<T, op>& plan = *plan_of(context, p, vector, tf32);
    if (vector != nullptr) set(plan.descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    const void* const addend = p.addend != nullptr ? p.addend : p.out;
    const Scratch<std::byte> workspace(context, static_cast<std::int64_t>(algorithm.workspace));
    const auto chosen = std::bit_cast<cublasLtMatmulAlgo_t>(algorithm.words);
    const float one = 1, beta = p.addend != nullptr ? 1.0f : 0.0f;
    check(cublasLtMatmul(static_cast<cublasLtHandle_t>(context.cublaslt()), plan.descriptor.get(), &one, p.b,
                         plan.b.get(), p.a, plan.a.get(), &beta, addend, plan.addend.get(), p.out,
                         plan.out.get(), &chosen, workspace.get(), algorithm.workspace,
                         static_cast<cudaStream_t>(context.stream.handle)),
          "cublasLtMatmul");
}

#define ITO_INSTANTIATE(T, op)                                                                          \
    template const std::vector<CublasLtAlgorithm>& cublaslt_algorithms(                                 \
        const Context&, const Product<T, Operation::op>&, const void*, bool);                           \
    template bool cublaslt_knows(const Context&, const Product<T, Operation::op>&, const void*, bool,   \
                                 CublasLtAlgorithm&);                                                   \
    template void product_cublaslt(const Context&, const Product<T, Operation::op>&, const void*, bool, \
                                   const CublasLtAlgorithm&)
ITO_INSTANTIATE(float, forward);
ITO_INSTANTIATE(float, backward_data);
ITO_INSTANTIATE(float, backward_weights);
ITO_INSTANTIATE(bfloat16, forward);
ITO_INSTANTIATE(bfloat16, backward_data);
ITO_INSTANTIATE(bfloat16, backward_weights);

}  // namespace ito::kernels::linear_detail
