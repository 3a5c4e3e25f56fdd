// The CUDA launchers of the linear layer: which variant runs. Each is one of the hand-written products or an algorithm of cuBLASLt,
// with what that leaves to us: rounding a bias before it, adding up a bias gradient after it.

#include <cublasLt.h>

#include <functional>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/common/error.h"
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

template <class T>
void require_version(Operation op, Variant variant) {
    constexpr bool has_tf32 = std::is_same_v<T, float>;
    if (variant == Variant::best || variant == Variant::naive || variant == Variant::tiled ||
        variant == Variant::cublaslt || (has_tf32 && variant == Variant::cublaslt_tf32))
        return;
    throw Error(std::string(name_of(op)) + ": no variant '" + name_of(variant) + "'" +
                (has_tf32 ? "; expected naive, tiled, cublaslt or cublaslt_tf32"
                          : " for bfloat16; expected naive, tiled or cublaslt"));
}

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

bool skip(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

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

    Call(const Context& context, const Product<T, op>& product, bool tf32, Parts parts)
        : context_(context), product_(product), tf32_(tf32), parts_(std::move(parts)) {}

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
        if (!cublaslt_knows(context_, product_, v.with_vector ? parts_.vector : nullptr, tf32_, v.algorithm))
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
            product_cublaslt(context_, product_, v.with_vector ? parts_.vector : nullptr, tf32_, v.algorithm);
        }
        if (!v.with_vector && parts_.without_vector) parts_.without_vector();
    }
    /// In place, so that it would be added again and again.
    std::vector<Accumulated> accumulated() const {
        if (!in_place()) return {};
        constexpr auto bytes = static_cast<std::int64_t>(sizeof(result_t<T, op>));
        return {{product_.out, product_.rows, product_.columns * bytes, product_.out_stride * bytes}};
    }

    /// The library's algorithms, best guess first: those with the vector before those without.
    std::vector<Candidate> by_library(bool all) const {
        std::vector<Candidate> found;
        const auto add = [&](bool with_vector) {
            for (const CublasLtAlgorithm& algorithm :
                 cublaslt_algorithms(context_, product_, with_vector ? parts_.vector : nullptr, tf32_))
                if (all || found.empty()) found.push_back({true, with_vector, algorithm});
        };
        if (parts_.vector != nullptr) add(true);
        if (!parts_.needs_vector) add(false);
        return found;
    }

    /// The fastest variant, found at the first call of this product.
    Candidate best() {
        if (product_.rows <= 0 || product_.columns <= 0 || product_.reduced <= 0 ||
            product_.rows * product_.columns * product_.reduced < least_for_cublaslt ||
            context_.cublaslt() == nullptr)
            return {};
        struct Key {
            std::int64_t sizes[8], has[4], generation;
        };
        const std::int64_t generation = context_.choices != nullptr ? context_.choices->generation() : 0;
        const Key key{{product_.rows, product_.columns, product_.reduced, product_.a_stride,
                       product_.b_stride, product_.addend_stride, product_.out_stride, alignment()},
                      {parts_.vector != nullptr, product_.addend != nullptr, in_place(),
                       std::is_same_v<T, float> && tf32_},
                      generation};
        return context_.plans->get<Candidate>(
            kind(), key, [&] { return std::make_shared<Candidate>(choose(context_, key_of(), *this)); });
    }

  private:
    bool in_place() const { return static_cast<const void*>(product_.addend) == product_.out; }
    static const char* kind() {
        static const std::string name =
            std::string("choice of ") + name_of(op) + (std::is_same_v<T, float> ? " float32" : " bfloat16");
        return name.c_str();
    }
    /// Of all that the library looks at, at most 16.
    std::int64_t alignment() const {
        std::uintptr_t all = 16;
        for (const void* pointer :
             {static_cast<const void*>(product_.a), static_cast<const void*>(product_.b),
              static_cast<const void*>(product_.addend), static_cast<const void*>(product_.out),
              parts_.vector})
            all |= reinterpret_cast<std::uintptr_t>(pointer);
        return static_cast<std::int64_t>(all & (~all + 1));
    }
    std::string key_of() const {
        std::string key = name_of(op);
        const auto add = [&](std::string_view before, std::int64_t number) {
            key.append(before).append(std::to_string(number));
        };
        key.append(!std::is_same_v<T, float> ? " bfloat16" : tf32_ ? " tf32" : " float32");
        add(" ", product_.rows), add("x", product_.reduced), add(" -> ", product_.columns);
        if (parts_.vector != nullptr) key.append(" bias");
        if (product_.addend != nullptr) key.append(in_place() ? " accumulate" : " residual");
        const bool weights = op == Operation::backward_weights;
        if (product_.a_stride != (weights ? product_.rows : product_.reduced)) add(" a/", product_.a_stride);
        if (product_.b_stride != (op == Operation::forward ? product_.reduced : product_.columns))
            add(" b/", product_.b_stride);
        if (product_.out_stride != product_.columns) add(" out/", product_.out_stride);
        if (product_.addend != nullptr && product_.addend_stride != product_.columns)
            add(" addend/", product_.addend_stride);
        if (alignment() < 16) add(" align ", alignment());
        return key;
    }

    const Context& context_;
    const Product<T, op>& product_;
    bool tf32_;
    Parts parts_;
};

/// Runs `variant` of the product, of which `parts` belong to the library's.
template <class T, Operation op>
void run(const Context& context, const Product<T, op>& product, Variant variant,
         typename Call<T, op>::Parts parts) {
    require_version<T>(op, variant);
    PlanCache plans;  // for this call, if there is no other
    Context here = context;
    if (here.plans == nullptr) here.plans = &plans;
    if (variant == Variant::naive) {
        product_naive(here, product);
        if (parts.without_vector) parts.without_vector();
        return;
    }
    const bool tf32 =
        variant == Variant::cublaslt_tf32 || (variant == Variant::best && context.math == MathMode::tf32);
    Call<T, op> call(here, product, tf32, std::move(parts));
    if (variant == Variant::tiled || product.rows <= 0 || product.columns <= 0 || product.reduced <= 0)
        return call.run({});  // also where there is nothing that the library would compute
    if (variant == Variant::best) return call.run(call.best());
    const std::vector<Candidate> found = call.by_library(false);
    if (found.empty())
        throw Error(std::string(name_of(op)) + ": the variant '" + name_of(variant) + "' needs " +
                    (context.cublaslt() == nullptr ? "cuBLASLt, of which the context has no handle"
                                                   : "an algorithm of cuBLASLt, which has none here"));
    call.run(found.front());
}

template <class T>
void forward(const Context& context, const LinearForward<T>& a, Variant variant) {
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

template <class T>
void backward_data(const Context& context, const LinearBackwardData<T>& a, Variant variant) {
    const auto product = product_of(a);
    run(context, product, variant, {});
}

template <class T>
void backward_weights(const Context& context, const LinearBackwardWeights<T>& a, Variant variant) {
    const auto product = product_of(a);
    const bool naive = variant == Variant::naive;
    // The library overwrites a bias gradient, beside the weights' one.
    const bool together = a.grad_weight != nullptr && a.grad_bias != nullptr && !a.accumulate_bias;
    if (a.grad_weight != nullptr) {
        typename Call<T, Operation::backward_weights>::Parts parts;
        if (together) {
            parts.vector = a.grad_bias;
            parts.without_vector = [&, naive] { bias_gradient(context, a, naive); };
        }
        run(context, product, variant, std::move(parts));
    } else {
        require_version<T>(Operation::backward_weights, variant);
    }
    if (a.grad_bias != nullptr && !together) bias_gradient(context, a, naive);
}

}  // namespace

namespace cuda {

void linear_forward(const Context& context, const LinearForward<float>& a, Variant variant) {
    forward(context, a, variant);
}
void linear_forward(const Context& context, const LinearForward<bfloat16>& a, Variant variant) {
    forward(context, a, variant);
}
void linear_backward_data(const Context& context, const LinearBackwardData<float>& a, Variant variant) {
    backward_data(context, a, variant);
}
void linear_backward_data(const Context& context, const LinearBackwardData<bfloat16>& a, Variant variant) {
    backward_data(context, a, variant);
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<float>& a, Variant variant) {
    backward_weights(context, a, variant);
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<bfloat16>& a,
                             Variant variant) {
    backward_weights(context, a, variant);
}

}  // namespace cuda
}  // namespace ito::kernels
