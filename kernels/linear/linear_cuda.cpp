// The CUDA launchers of the linear layer: which variant runs. Each is a hand-written product or an algorithm of cuBLASLt, with what
// that leaves to us: rounding a bias before it, summing a bias gradient after it.

#include <cublasLt.h>

#include <functional>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/common/plan_cache.h"
#include "kernels/common/scratch.h"
#include "kernels/cuda/choose.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/linear/linear_product.h"

namespace ito::kernels {
namespace {

using namespace linear_detail;

/// Multiplications from which on `best` asks the library: below, a launch costs more than the product.
constexpr std::int64_t least_for_cublaslt = 1 << 22;

/// A way to compute a product.
struct Candidate {
    bool library = false;         ///< else tiled
    bool with_vector = false;     ///< the library's epilogue adds the bias, or stores its gradient
    CublasLtAlgorithm algorithm;  ///< of the library
};

/// Names and words of recorded choices.
std::string library_prefix() {
    return "cublaslt " + std::to_string(cublasLtGetVersion()) + " ";
}
constexpr std::string_view vector_word = "bias ";

/// One product: a Family for choose().
template <class T, Operation op>
class Call {
  public:
    using Candidate = kernels::Candidate;

    struct Parts {
        /// What an epilogue of the library reads or writes, or null: see cublaslt_algorithms().
        const void* vector = nullptr;
        /// Whether it must do so where it computes the product.
        bool needs_vector = false;
        std::function<void()> before_library;  ///< prepares the vector
        std::function<void()> without_vector;  ///< does what the epilogue would have done
    };

    Call(const Context& context, const Product<T, op>& product, Parts parts)
        : context_(context), product_(product), parts_(std::move(parts)) {}

    std::string text(const Candidate& v) const {
        if (!v.library) return name_of(Variant::tiled);
        std::string made = library_prefix();
        return made.append(v.with_vector ? vector_word : "").append(v.algorithm.text());
    }
    std::optional<Candidate> recreate(std::string_view text) const {
        if (text == name_of(Variant::tiled)) return Candidate{};
        if (context_.cublaslt() == nullptr || !skip(text, library_prefix())) return std::nullopt;
        Candidate v{true, skip(text, vector_word), {}};
        const auto algorithm = CublasLtAlgorithm::parse(text);
        if (!algorithm || (v.with_vector ? parts_.vector == nullptr : parts_.needs_vector))
            return std::nullopt;
        v.algorithm = *algorithm;
        if (!cublaslt_knows(context_, product_, v.with_vector ? parts_.vector : nullptr, v.algorithm))
            return std::nullopt;
        return v;
    }
    std::vector<Candidate> candidates(bool all) const {
        std::vector<Candidate> found = by_library(all);
        if (all || found.empty()) found.push_back({});
        return found;
    }
    void run(const Candidate& v) const {
        if (!v.library) {
            product_tiled(context_, product_);
        } else {
            if (v.with_vector && parts_.before_library) parts_.before_library();
            product_cublaslt(context_, product_, v.with_vector ? parts_.vector : nullptr, v.algorithm);
        }
        if (!v.with_vector) without_vector();
    }
    void without_vector() const {
        if (parts_.without_vector) parts_.without_vector();
    }
    /// In place: each run would add it again.
    std::vector<Accumulated> accumulated() const {
        if (!product_.in_place()) return {};
        constexpr auto bytes = static_cast<std::int64_t>(sizeof(result_t<T, op>));
        return {{product_.out.data, product_.rows, product_.columns * bytes, product_.out.stride * bytes}};
    }

    /// The library's algorithms, best guess first: those with the vector before those without.
    std::vector<Candidate> by_library(bool all) const {
        std::vector<Candidate> found;
        const auto add = [&](bool with_vector) {
            for (const CublasLtAlgorithm& algorithm :
                 cublaslt_algorithms(context_, product_, with_vector ? parts_.vector : nullptr))
                if (all || found.empty()) found.push_back({true, with_vector, algorithm});
        };
        if (parts_.vector != nullptr) add(true);
        if (!parts_.needs_vector) add(false);
        return found;
    }

    /// The fastest variant, found at the first call of this product.
    Candidate best() {
        if (product_.empty() || product_.rows * product_.columns * product_.k < least_for_cublaslt ||
            context_.cublaslt() == nullptr)
            return {};
        struct Key {
            std::int64_t sizes[8], has[4], generation;
        };
        const std::int64_t generation = context_.choices != nullptr ? context_.choices->generation() : 0;
        const Key key{
            {product_.rows, product_.columns, product_.k, product_.a.stride, product_.b.stride,
             product_.addend.stride, product_.out.stride, alignment()},
            {parts_.vector != nullptr, static_cast<bool>(product_.addend), product_.in_place(), tf32()},
            generation};
        return context_.plans->get<Candidate>(
            kind(), key, [&] { return std::make_shared<Candidate>(choose(context_, key_of(), *this)); });
    }

  private:
    bool tf32() const { return std::is_same_v<T, float> && context_.math == MathMode::tf32; }
    static const char* kind() {
        static const std::string name =
            std::string("choice of ") + name_of(op) + (std::is_same_v<T, float> ? " float32" : " bfloat16");
        return name.c_str();
    }
    /// Of all that the library looks at.
    std::int64_t alignment() const {
        return common_alignment(
            {product_.a.data, product_.b.data, product_.addend.data, product_.out.data, parts_.vector});
    }
    std::string key_of() const {
        std::string key = name_of(op);
        const auto add = [&](std::string_view before, std::int64_t number) {
            key.append(before).append(std::to_string(number));
        };
        key.append(!std::is_same_v<T, float> ? " bfloat16" : tf32() ? " tf32" : " float32");
        add(" ", product_.rows), add("x", product_.k), add(" -> ", product_.columns);
        if (parts_.vector != nullptr) key.append(" bias");
        if (product_.addend) key.append(product_.in_place() ? " accumulate" : " residual");
        const auto add_stride = [&](std::string_view before, const auto& matrix) {
            if (matrix.stride != matrix.columns) add(before, matrix.stride);
        };
        add_stride(" a/", product_.a), add_stride(" b/", product_.b), add_stride(" out/", product_.out);
        add_stride(" addend/", product_.addend);
        if (alignment() < 16) add(" align ", alignment());
        return key;
    }

    const Context& context_;
    const Product<T, op>& product_;
    Parts parts_;
};

/// Refuses a variant that there is not; cublaslt is `possible`, or needs something.
Variant checked(Operation op, Variant variant, bool possible = true, const char* needs = "") {
    return choose_variant(
        name_of(op), variant,
        {{Variant::best}, {Variant::naive}, {Variant::tiled}, {Variant::cublaslt, possible, needs}});
}

/// Runs `variant` of the product, of which `parts` belong to the library's.
template <class T, Operation op>
void run(const Context& context, const Product<T, op>& product, Variant variant,
         typename Call<T, op>::Parts parts) {
    PlanCache plans;  // for this call, if there is no other
    Context here = context;
    if (here.plans == nullptr) here.plans = &plans;
    Call<T, op> call(here, product, std::move(parts));
    // Where there is nothing to compute the library is not asked.
    const auto found =
        variant == Variant::cublaslt && !product.empty() ? call.by_library(false) : std::vector<Candidate>(1);
    const bool no_handle = found.empty() && context.cublaslt() == nullptr;
    switch (checked(op, variant, !found.empty(),
                    no_handle ? "cuBLASLt, of which the context has no handle"
                              : "an algorithm of cuBLASLt, which has none here")) {
        case Variant::naive:
            product_naive(here, product);
            return call.without_vector();
        case Variant::best:
            return call.run(call.best());
        default:
            return call.run(found.front());
    }
}

}  // namespace

namespace cuda {

template <CudaFloat T>
void linear_forward(const Context& context, const LinearForward<T>& a, Variant variant) {
    const auto product = product_of(a);
    typename Call<T, Operation::forward>::Parts parts;
    Scratch<bfloat16> rounded;
    if (a.bias != nullptr) {
        parts.vector = a.bias, parts.needs_vector = true;
        if constexpr (std::is_same_v<T, bfloat16>) {
            parts.vector = a.rounded_bias;
            if (a.rounded_bias == nullptr) {
                rounded = Scratch<bfloat16>(context, product.columns);
                parts.vector = rounded.get();
                // The library adds a bias of y's type only.
                parts.before_library = [&] {
                    cuda::copy(context, copy_of(a.bias, product.columns, rounded.get()));
                };
            }
        }
    }
    run(context, product, variant, std::move(parts));
}

template <CudaFloat T>
void linear_backward_data(const Context& context, const LinearBackwardData<T>& a, Variant variant) {
    run(context, product_of(a), variant, {});
}

template <CudaFloat T>
void linear_backward_weights(const Context& context, const LinearBackwardWeights<T>& a, Variant variant) {
    checked(Operation::backward_weights, variant);
    const bool naive = variant == Variant::naive;
    // The library overwrites a bias gradient, beside the weights' one.
    const bool together = a.grad_weight != nullptr && a.grad_bias != nullptr && !a.accumulate_bias;
    if (a.grad_weight != nullptr) {
        typename Call<T, Operation::backward_weights>::Parts parts;
        if (together) {
            parts.vector = a.grad_bias;
            parts.without_vector = [&, naive] { bias_gradient(context, a, naive); };
        }
        run(context, product_of(a), variant, std::move(parts));
    }
    if (a.grad_bias != nullptr && !together) bias_gradient(context, a, naive);
}

ITO_FOR_CUDA_TYPES(linear_forward, LinearForward);
ITO_FOR_CUDA_TYPES(linear_backward_data, LinearBackwardData);
ITO_FOR_CUDA_TYPES(linear_backward_weights, LinearBackwardWeights);

}  // namespace cuda
}  // namespace ito::kernels
