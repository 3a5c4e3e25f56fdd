// The stand-in for cuBLASLt: handles, descriptors, the heuristic and the matrix product, computed in double and rounded once.
// It knows the types and epilogues that the project uses and refuses the others, and what the real library would refuse of
// those: CUBLAS_STATUS_NOT_SUPPORTED or CUBLAS_STATUS_INVALID_VALUE, with a report that says why.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "tools/vgpu/kernel.h"
#include "tools/vgpu/runtime/elements.h"
#include "tools/vgpu/runtime/state.h"

using vgpu::Fault;
using vgpu::detail::LibraryHandle;
using vgpu::detail::LtDescriptor;
using vgpu::detail::report_api;
using vgpu::detail::state;

namespace {

using Kind = LtDescriptor::Kind;

cublasStatus_t cublas_status(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return CUBLAS_STATUS_SUCCESS;
        case cudaErrorInvalidResourceHandle:
            return CUBLAS_STATUS_NOT_INITIALIZED;
        case cudaErrorMemoryAllocation:
            return CUBLAS_STATUS_ALLOC_FAILED;
        default:
            return CUBLAS_STATUS_INTERNAL_ERROR;
    }
}

/// What every call does around its work. A refusal is the library's status, and no error of the runtime.
template <class Body>
cublasStatus_t api(const char* name, Body&& body) {
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    const cudaError_t error = vgpu::detail::api(name, [&] {
        status = body();
        return cudaSuccess;
    });
    return error == cudaSuccess ? status : cublas_status(error);
}

cublasStatus_t make(void* handle, Kind kind, LtDescriptor descriptor) {
    descriptor.kind = kind;
    void* const made = state().lt_descriptors.insert(std::make_shared<LtDescriptor>(descriptor));
    std::memcpy(handle, &made, sizeof(made));
    return CUBLAS_STATUS_SUCCESS;
}

/// Null, after a report, if this is no living descriptor of that kind.
std::shared_ptr<LtDescriptor> find(const void* handle, Kind kind, const char* call) {
    auto found = state().lt_descriptors.find(handle, call);
    if (found && found->kind != kind) {
        report_api(Fault::bad_handle, call, "this descriptor is one of another kind");
        return nullptr;
    }
    return found;
}

cublasStatus_t destroy(const void* handle, Kind kind, const char* call) {
    return api(call, [&] {
        if (!find(handle, kind, call)) return CUBLAS_STATUS_NOT_INITIALIZED;
        state().lt_descriptors.erase(handle);
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t refuse(cublasStatus_t status, const char* call, std::string why) {
    report_api(Fault::unknown, call, std::move(why));
    return status;
}

cublasStatus_t set_attribute(void* handle, Kind kind, int attribute, const void* value, std::size_t bytes,
                             const char* call) {
    return api(call, [&] {
        const auto found = find(handle, kind, call);
        if (!found) return CUBLAS_STATUS_NOT_INITIALIZED;
        std::size_t expected = 4;  // the attributes that are known; the others are refused
        if (kind == Kind::operation) {
            switch (attribute) {
                case CUBLASLT_MATMUL_DESC_TRANSA:
                case CUBLASLT_MATMUL_DESC_TRANSB:
                case CUBLASLT_MATMUL_DESC_EPILOGUE:
                case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
                    break;
                case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
                    expected = 8;
                    break;
                default:
                    expected = 0;
            }
        } else {
            switch (attribute) {
                case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
                case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
                case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
                case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
                case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
                    break;
                case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
                    expected = 8;
                    break;
                default:
                    expected = 0;
            }
        }
        if (expected == 0)
            return refuse(CUBLAS_STATUS_NOT_SUPPORTED, call,
                          "the stand-in does not know attribute " + std::to_string(attribute));
        if (value == nullptr || bytes != expected)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, call,
                          "attribute " + std::to_string(attribute) + " has " + std::to_string(expected) +
                              " bytes, " + std::to_string(bytes) + " were given");
        std::uint64_t word = 0;
        std::memcpy(&word, value, bytes);
        found->attributes[attribute] = word;
        return CUBLAS_STATUS_SUCCESS;
    });
}

// ------------------------------------------------------------------------------------------------------------ the product

std::size_t size_of(int type) {
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 0;
}

/// One product, with copies of all that describes it.
struct Product {
    LtDescriptor operation, a, b, c, d;
    const void *a_data = nullptr, *b_data = nullptr, *c_data = nullptr;
    void* d_data = nullptr;
    float alpha = 1, beta = 0;

    bool transposed(bool second) const {
        return operation.get(second ? CUBLASLT_MATMUL_DESC_TRANSB : CUBLASLT_MATMUL_DESC_TRANSA,
                             CUBLAS_OP_N) != CUBLAS_OP_N;
    }
    std::uint64_t epilogue() const {
        return operation.get(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    }
    std::uint64_t bias() const { return operation.get(CUBLASLT_MATMUL_DESC_BIAS_POINTER, 0); }
    /// -1, the default, is the output's type.
    int bias_type() const {
        const int type = static_cast<int>(
            operation.get(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::uint32_t>(-1)));
        return type == -1 ? d.type : type;
    }
    std::uint64_t reduced() const { return transposed(false) ? a.rows : a.columns; }
    std::uint64_t bias_length() const { return epilogue() == CUBLASLT_EPILOGUE_BGRADB ? d.columns : d.rows; }
};

/// Why the real library would not compute it; empty if it would.
std::string problem(const Product& p) {
    const auto text = [](const char* name, const LtDescriptor& l) {
        return std::string(name) + " is " + std::to_string(l.rows) + "x" + std::to_string(l.columns);
    };
    if (p.a.type != p.b.type || size_of(p.a.type) == 0)
        return "A and B must both be float32 or both bfloat16";
    if (p.c.type != p.d.type || size_of(p.d.type) == 0 || (p.a.type == CUDA_R_32F && p.d.type != CUDA_R_32F))
        return "C and D must be of one type: float32, or bfloat16 beside bfloat16 factors";
    if (p.operation.type != CUDA_R_32F) return "the scale type must be float32";
    const bool strict = p.operation.compute == CUBLAS_COMPUTE_32F;
    if (!strict && (p.operation.compute != CUBLAS_COMPUTE_32F_FAST_TF32 || p.a.type != CUDA_R_32F))
        return "the compute type must be CUBLAS_COMPUTE_32F, or with float32 factors "
               "CUBLAS_COMPUTE_32F_FAST_TF32";
    for (const auto& [name, layout] : {std::pair{"A", &p.a}, {"B", &p.b}, {"C", &p.c}, {"D", &p.d}}) {
        if (layout->rows == 0 || layout->columns == 0) return text(name, *layout) + ": a size is zero";
        if (layout->leading < static_cast<std::int64_t>(layout->rows))
            return text(name, *layout) + ", its leading dimension is only " + std::to_string(layout->leading);
    }
    const std::uint64_t m = p.transposed(false) ? p.a.columns : p.a.rows, k = p.reduced();
    const std::uint64_t n = p.transposed(true) ? p.b.rows : p.b.columns;
    if ((p.transposed(true) ? p.b.columns : p.b.rows) != k)
        return text("A", p.a) + ", " + text("B", p.b) + ": their inner dimensions differ";
    if (p.d.rows != m || p.d.columns != n || p.c.rows != m || p.c.columns != n)
        return text("C", p.c) + ", " + text("D", p.d) + ", expected " + std::to_string(m) + "x" +
               std::to_string(n);
    switch (p.epilogue()) {
        case CUBLASLT_EPILOGUE_DEFAULT:
            return "";
        case CUBLASLT_EPILOGUE_BIAS:
        case CUBLASLT_EPILOGUE_BGRADB:
            break;
        default:
            return "the stand-in does not know epilogue " + std::to_string(p.epilogue());
    }
    if (p.bias_type() != p.d.type) return "bias and its gradient must be of D's type";
    return "";
}

std::uint64_t alignment_of(std::uint64_t address) {
    return address == 0 ? 256 : std::min<std::uint64_t>(address & (~address + 1), 256);
}

float load(const std::byte* from, int type) {
    return vgpu::detail::load_element(from, type != CUDA_R_32F);
}

void store(std::byte* to, int type, double value) {
    vgpu::detail::store_element(to, type != CUDA_R_32F, static_cast<float>(value));
}

/// The factor's elements, column by column; empty after a report. TF32 keeps 10 bits of the fraction.
std::vector<double> read(const LtDescriptor& l, const void* data, bool tf32) {
    std::vector<double> values;
    values.reserve(l.rows * l.columns);
    for (std::uint64_t column = 0; column < l.columns; ++column) {
        const auto* const first = static_cast<const std::byte*>(data) +
                                  column * static_cast<std::uint64_t>(l.leading) * size_of(l.type);
        const std::byte* const from = vgpu::device_read(first, l.rows * size_of(l.type));
        if (from == nullptr) return {};
        for (std::uint64_t row = 0; row < l.rows; ++row) {
            const float v = load(from + row * size_of(l.type), l.type);
            values.push_back(tf32 ? vgpu::detail::round_to_tf32(v) : v);
        }
    }
    return values;
}

/// Each element once: what the library really fetches depends on its tiles, which are not known here.
void count(const Product& p) {
    vgpu::Counters c;
    c.kernel = "cublasLtMatmul";
    c.launches = 1;
    const std::uint64_t ab = p.a.rows * p.a.columns + p.b.rows * p.b.columns, d = p.d.rows * p.d.columns;
    const std::uint64_t vector = p.epilogue() == CUBLASLT_EPILOGUE_DEFAULT ? 0 : p.bias_length();
    c.bytes_read = ab * size_of(p.a.type) + (p.beta != 0 ? d * size_of(p.c.type) : 0);
    c.bytes_written = d * size_of(p.d.type);
    (p.epilogue() == CUBLASLT_EPILOGUE_BIAS ? c.bytes_read : c.bytes_written) +=
        vector * size_of(p.bias_type());
    c.unique_bytes_read = c.bytes_read, c.unique_bytes_written = c.bytes_written;
    vgpu::count_library_call(c);
}

void compute(const Product& p) {
    const bool tf32 = p.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const std::vector<double> a = read(p.a, p.a_data, tf32), b = read(p.b, p.b_data, tf32);
    std::vector<double> c;
    if (p.beta != 0) c = read(p.c, p.c_data, false);
    if (a.empty() || b.empty() || (p.beta != 0 && c.empty())) return;
    const std::uint64_t m = p.d.rows, n = p.d.columns, k = p.reduced();
    const auto bias_at = reinterpret_cast<std::byte*>(p.bias());
    const std::size_t bias_bytes = p.bias_length() * size_of(p.bias_type());
    const std::byte* const bias =
        p.epilogue() == CUBLASLT_EPILOGUE_BIAS ? vgpu::device_read(bias_at, bias_bytes) : nullptr;
    if (p.epilogue() == CUBLASLT_EPILOGUE_BIAS && bias == nullptr) return;
    const auto b_at = [&](std::uint64_t r, std::uint64_t j) {
        return b[p.transposed(true) ? r * p.b.rows + j : j * p.b.rows + r];
    };
    for (std::uint64_t j = 0; j < n; ++j) {
        std::byte* const to =
            vgpu::device_write(static_cast<std::byte*>(p.d_data) +
                                   j * static_cast<std::uint64_t>(p.d.leading) * size_of(p.d.type),
                               m * size_of(p.d.type));
        if (to == nullptr) return;
        for (std::uint64_t i = 0; i < m; ++i) {
            double sum = 0;
            for (std::uint64_t r = 0; r < k; ++r)
                sum += a[p.transposed(false) ? i * p.a.rows + r : r * p.a.rows + i] * b_at(r, j);
            sum *= p.alpha;
            if (p.beta != 0) sum += p.beta * c[j * m + i];
            if (bias != nullptr) sum += load(bias + i * size_of(p.bias_type()), p.bias_type());
            store(to + i * size_of(p.d.type), p.d.type, sum);
        }
    }
    count(p);
    if (p.epilogue() != CUBLASLT_EPILOGUE_BGRADB) return;
    std::byte* const gradient = vgpu::device_write(bias_at, bias_bytes);
    for (std::uint64_t j = 0; gradient != nullptr && j < n; ++j) {
        double sum = 0;
        for (std::uint64_t r = 0; r < k; ++r) sum += b_at(r, j);
        store(gradient + j * size_of(p.bias_type()), p.bias_type(), sum);
    }
}

/// What the heuristic puts into cublasLtMatmulAlgo_t, for the product to compare with.
struct Algorithm {
    std::uint64_t magic, number, workspace, alignment_ab, alignment_cd;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));
constexpr std::uint64_t magic = 0x6c74616c676f;

/// As much as a real algorithm may want, so that the workspace and its address are looked at. The third wants none.
constexpr std::uint64_t algorithm_workspace = 1 << 16;
constexpr std::uint64_t algorithms = 3;

/// The four layouts and the operation; false after a report.
bool collect(Product& p, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
             cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const char* call) {
    const auto found = find(operation, Kind::operation, call);
    const auto fa = find(a, Kind::layout, call), fb = find(b, Kind::layout, call);
    const auto fc = find(c, Kind::layout, call), fd = find(d, Kind::layout, call);
    if (!found || !fa || !fb || !fc || !fd) return false;
    p.operation = *found, p.a = *fa, p.b = *fb, p.c = *fc, p.d = *fd;
    return true;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    return api("cublasLtCreate", [&] {
        *handle = static_cast<cublasLtHandle_t>(state().cublaslt.insert(std::make_shared<LibraryHandle>()));
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    return api("cublasLtDestroy", [&] {
        if (!state().cublaslt.find(handle, "cublasLtDestroy")) return CUBLAS_STATUS_NOT_INITIALIZED;
        state().cublaslt.erase(handle);
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
    return api("cublasLtMatrixLayoutCreate", [&] {
        LtDescriptor made;
        made.type = type, made.rows = rows, made.columns = columns, made.leading = leading;
        return make(layout, Kind::layout, made);
    });
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    return destroy(layout, Kind::layout, "cublasLtMatrixLayoutDestroy");
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    return api("cublasLtMatmulDescCreate", [&] {
        LtDescriptor made;
        made.type = scale, made.compute = compute;
        return make(operation, Kind::operation, made);
    });
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
    return destroy(operation, Kind::operation, "cublasLtMatmulDescDestroy");
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
    return set_attribute(operation, Kind::operation, attribute, value, bytes,
                         "cublasLtMatmulDescSetAttribute");
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    return api("cublasLtMatmulPreferenceCreate",
               [&] { return make(preference, Kind::preference, LtDescriptor{}); });
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    return destroy(preference, Kind::preference, "cublasLtMatmulPreferenceDestroy");
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
    return set_attribute(preference, Kind::preference, attribute, value, bytes,
                         "cublasLtMatmulPreferenceSetAttribute");
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
    const char* const call = "cublasLtMatmulAlgoGetHeuristic";
    return api(call, [&] {
        *returned = 0;
        Product p;
        const auto wanted = find(preference, Kind::preference, call);
        if (!state().cublaslt.find(handle, call) || !wanted || !collect(p, operation, a, b, c, d, call))
            return CUBLAS_STATUS_NOT_INITIALIZED;
        if (requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
        // A program may ask what there is: no report.
        if (!problem(p).empty()) return CUBLAS_STATUS_NOT_SUPPORTED;
        const auto alignment = [&](int attribute) { return wanted->get(attribute, 256); };
        Algorithm chosen{};
        chosen.magic = magic;
        chosen.alignment_ab = std::min(alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES),
                                       alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES));
        chosen.alignment_cd = std::min(alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES),
                                       alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES));
        const std::uint64_t most = wanted->get(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 0);
        for (; *returned < requested && static_cast<std::uint64_t>(*returned) < algorithms; ++*returned) {
            cublasLtMatmulHeuristicResult_t& result = results[*returned];
            chosen.number = static_cast<std::uint64_t>(*returned);
            chosen.workspace = chosen.number == 2 ? 0 : std::min(most, algorithm_workspace);
            result = {};
            std::memcpy(&result.algo, &chosen, sizeof(chosen));
            result.workspaceSize = chosen.workspace;
            result.state = CUBLAS_STATUS_SUCCESS;
            result.wavesCount = 1;
        }
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
    const char* const call = "cublasLtMatmulAlgoCheck";
    return api(call, [&] {
        Product p;
        if (!state().cublaslt.find(handle, call) || !collect(p, operation, a, b, c, d, call))
            return CUBLAS_STATUS_NOT_INITIALIZED;
        Algorithm asked{};
        std::memcpy(&asked, algo, sizeof(asked));
        if (asked.magic != magic || asked.number >= algorithms) return CUBLAS_STATUS_INVALID_VALUE;
        if (!problem(p).empty()) return CUBLAS_STATUS_NOT_SUPPORTED;
        result->workspaceSize = asked.workspace;
        result->state = CUBLAS_STATUS_SUCCESS;
        result->wavesCount = 1;
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a_data, cublasLtMatrixLayout_t a, const void* b_data,
                              cublasLtMatrixLayout_t b, const void* beta, const void* c_data,
                              cublasLtMatrixLayout_t c, void* d_data, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    const char* const call = "cublasLtMatmul";
    return api(call, [&] {
        Product p;
        if (!state().cublaslt.find(handle, call) || !collect(p, operation, a, b, c, d, call))
            return CUBLAS_STATUS_NOT_INITIALIZED;
        if (std::string why = problem(p); !why.empty()) return refuse(CUBLAS_STATUS_NOT_SUPPORTED, call, why);
        if (alpha == nullptr || beta == nullptr || a_data == nullptr || b_data == nullptr ||
            d_data == nullptr)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, call, "a pointer is null");
        p.a_data = a_data, p.b_data = b_data, p.c_data = c_data, p.d_data = d_data;
        std::memcpy(&p.alpha, alpha, sizeof(float)), std::memcpy(&p.beta, beta, sizeof(float));
        if (p.beta != 0 && c_data == nullptr) return refuse(CUBLAS_STATUS_INVALID_VALUE, call, "C is null");
        if (c_data == d_data && p.c.leading != p.d.leading)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, call, "C is D, but has another leading dimension");
        if (p.epilogue() != CUBLASLT_EPILOGUE_DEFAULT && p.bias() == 0)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, call, "the epilogue needs a bias pointer");
        Algorithm chosen{};
        if (algo != nullptr) std::memcpy(&chosen, algo, sizeof(chosen));
        if (chosen.magic != magic)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, call,
                          "the algorithm is not one that the heuristic returned");
        const auto address = [](const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); };
        if (std::min(alignment_of(address(a_data)), alignment_of(address(b_data))) < chosen.alignment_ab ||
            std::min(alignment_of(address(c_data)), alignment_of(address(d_data))) < chosen.alignment_cd)
            return refuse(CUBLAS_STATUS_NOT_SUPPORTED, call,
                          "a matrix is less aligned than the preference said when the algorithm was chosen");
        if (workspace_bytes < chosen.workspace)
            return refuse(CUBLAS_STATUS_NOT_SUPPORTED, call,
                          "the algorithm needs " + std::to_string(chosen.workspace) +
                              " bytes of workspace, " + std::to_string(workspace_bytes) + " are given");
        if (chosen.workspace > 0 && address(workspace) % 256 != 0)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, call, "the workspace must start on 256 bytes");
        vgpu::Work work;
        work.name = call;
        work.run = [p, workspace, bytes = static_cast<std::size_t>(chosen.workspace)] {
            if (bytes > 0) {
                // What an algorithm leaves in its workspace is its own affair, and not what was there.
                std::byte* const scratch = vgpu::device_write(workspace, bytes);
                if (scratch == nullptr) return;
                std::memset(scratch, 0xff, bytes);
            }
            compute(p);
        };
        return cublas_status(vgpu::enqueue(stream, std::move(work)));
    });
}

}  // extern "C"
