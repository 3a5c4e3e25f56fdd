// The CUDA launchers of the linear layer: which version runs. Each is one of the hand-written products or an algorithm of cuBLASLt,
// with what that leaves to us: rounding a bias before it, adding up a bias gradient after it.

#include <cublasLt.h>

#include <functional>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/elementwise/elementwise.h"
#include "kernels/linear/linear_product.h"
#include "kernels/runtime/choose.h"
#include "kernels/runtime/error.h"
#include "kernels/runtime/plan_cache.h"
#include "kernels/runtime/scratch.h"

namespace ito::kernels {
namespace {

using namespace linear_detail;

/// Multiplications from which on `best` asks the library: below, a launch costs more than the product.
constexpr std::int64_t least_for_vendor = 1 << 22;

template <class T>
void require_version(Operation op, Version version) {
    constexpr bool has_tf32 = std::is_same_v<T, float>;
    if (version == Version::best || version == Version::naive || version == Version::tiled ||
        version == Version::vendor || (has_tf32 && version == Version::vendor_tf32))
        return;
    throw Error(std::string(name_of(op)) + ": no version '" + name_of(version) + "'" +
                (has_tf32 ? "; expected naive, tiled, vendor or vendor_tf32"
                          : " for bfloat16; expected naive, tiled or vendor"));
}

/// A way to compute a product.
struct Variant {
    bool library = false;       ///< else tiled
    bool with_vector = false;   ///< the library's epilogue adds the bias, or stores its gradient
    VendorAlgorithm algorithm;  ///< of the library
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
    using Variant = kernels::Variant;

    struct Parts {
        /// What an epilogue of the library reads or writes, or null: see vendor_algorithms().
        const void* vector = nullptr;
        /// Whether it must do so where it computes the product.
        bool needs_vector = false;
        std::function<void()> before_library;  ///< prepares the vector
        std::function<void()> without_vector;  ///< does what the epilogue would have done
    };

    Call(const Context& context, const Product<T, op>& product, bool tf32, Parts parts)
        : context_(context), product_(product), tf32_(tf32), parts_(std::move(parts)) {}

    std::string text(const Variant& v) const {
        if (!v.library) return name_of(Version::tiled);
        std::string made = library_prefix();
        return made.append(v.with_vector ? vector_word : "").append(v.algorithm.text());
    }
    std::optional<Variant> recreate(std::string_view text) const {
        if (text == name_of(Version::tiled)) return Variant{};
        if (context_.cublaslt() == nullptr || !skip(text, library_prefix())) return std::nullopt;
        Variant v{true, skip(text, vector_word), {}};
        const auto algorithm = VendorAlgorithm::parse(text);
        if (!algorithm || (v.with_vector ? parts_.vector == nullptr : parts_.needs_vector))
            return std::nullopt;
        v.algorithm = *algorithm;
        if (!vendor_knows(context_, product_, v.with_vector ? parts_.vector : nullptr, tf32_, v.algorithm))
            return std::nullopt;
        return v;
    }
    std::vector<Variant> candidates(bool all) const {
        std::vector<Variant> found = by_library(all);
        if (all || found.empty()) found.push_back({});
        return found;
    }
    void run(const Variant& v) const {
        if (!v.library) {
            product_tiled(context_, product_);
        } else {
            if (v.with_vector && parts_.before_library) parts_.before_library();
            product_vendor(context_, product_, v.with_vector ? parts_.vector : nullptr, tf32_, v.algorithm);
        }
        if (!v.with_vector && parts_.without_vector) parts_.without_vector();
    }
    /// In place, so that it would be added again and again.
    std::vector<Accumulated> accumulated() const {
        if (!in_place()) return {};
        constexpr auto bytes = static_cast<std::int64_t>(sizeof(result_t<T, op>));
        return {{product_.out, product_.rows, product_.columns * bytes, product_.out_pitch * bytes}};
    }

    /// The library's algorithms, best guess first: those with the vector before those without.
    std::vector<Variant> by_library(bool all) const {
        std::vector<Variant> found;
        const auto add = [&](bool with_vector) {
            for (const VendorAlgorithm& algorithm :
                 vendor_algorithms(context_, product_, with_vector ? parts_.vector : nullptr, tf32_))
                if (all || found.empty()) found.push_back({true, with_vector, algorithm});
        };
        if (parts_.vector != nullptr) add(true);
        if (!parts_.needs_vector) add(false);
        return found;
    }

    /// The fastest variant, found at the first call of this product.
    Variant best() {
        if (product_.rows <= 0 || product_.columns <= 0 || product_.reduced <= 0 ||
            product_.rows * product_.columns * product_.reduced < least_for_vendor ||
            context_.cublaslt() == nullptr)
            return {};
        struct Key {
            std::int64_t sizes[8], has[4], generation;
        };
        const std::int64_t generation = context_.choices != nullptr ? context_.choices->generation() : 0;
        const Key key{{product_.rows, product_.columns, product_.reduced, product_.a_pitch, product_.b_pitch,
                       product_.addend_pitch, product_.out_pitch, alignment()},
                      {parts_.vector != nullptr, product_.addend != nullptr, in_place(),
                       std::is_same_v<T, float> && tf32_},
                      generation};
        return context_.plans->get<Variant>(
            kind(), key, [&] { return std::make_shared<Variant>(choose(context_, key_of(), *this)); });
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
        if (product_.a_pitch != (weights ? product_.rows : product_.reduced)) add(" a/", product_.a_pitch);
        if (product_.b_pitch != (op == Operation::forward ? product_.reduced : product_.columns))
            add(" b/", product_.b_pitch);
        if (product_.out_pitch != product_.columns) add(" out/", product_.out_pitch);
        if (product_.addend != nullptr && product_.addend_pitch != product_.columns)
            add(" addend/", product_.addend_pitch);
        if (alignment() < 16) add(" align ", alignment());
        return key;
    }

    const Context& context_;
    const Product<T, op>& product_;
    bool tf32_;
    Parts parts_;
};

/// Runs `version` of the product, of which `parts` belong to the library's.
template <class T, Operation op>
void run(const Context& context, const Product<T, op>& product, Version version,
         typename Call<T, op>::Parts parts) {
    require_version<T>(op, version);
    PlanCache plans;  // for this call, if there is no other
    Context here = context;
    if (here.plans == nullptr) here.plans = &plans;
    if (version == Version::naive) {
        product_naive(here, product);
        if (parts.without_vector) parts.without_vector();
        return;
    }
    const bool tf32 =
        version == Version::vendor_tf32 || (version == Version::best && context.math == MathMode::tf32);
    Call<T, op> call(here, product, tf32, std::move(parts));
    if (version == Version::tiled || product.rows <= 0 || product.columns <= 0 || product.reduced <= 0)
        return call.run({});  // also where there is nothing that the library would compute
    if (version == Version::best) return call.run(call.best());
    const std::vector<Variant> found = call.by_library(false);
    if (found.empty())
        throw Error(std::string(name_of(op)) + ": the version '" + name_of(version) + "' needs " +
                    (context.cublaslt() == nullptr ? "cuBLASLt, of which the context has no handle"
                                                   : "an algorithm of cuBLASLt, which has none here"));
    call.run(found.front());
}

template <class T>
void forward(const Context& context, const LinearForward<T>& a, Version version) {
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
    run(context, product, version, std::move(parts));
}

template <class T>
void backward_data(const Context& context, const LinearBackwardData<T>& a, Version version) {
    const auto product = product_of(a);
    run(context, product, version, {});
}

template <class T>
void backward_weights(const Context& context, const LinearBackwardWeights<T>& a, Version version) {
    const auto product = product_of(a);
    const bool naive = version == Version::naive;
    // The library overwrites a bias gradient, beside the weights' one.
    const bool together = a.grad_weight != nullptr && a.grad_bias != nullptr && !a.accumulate_bias;
    if (a.grad_weight != nullptr) {
        typename Call<T, Operation::backward_weights>::Parts parts;
        if (together) {
            parts.vector = a.grad_bias;
            parts.without_vector = [&, naive] { bias_gradient(context, a, naive); };
        }
        run(context, product, version, std::move(parts));
    } else {
        require_version<T>(Operation::backward_weights, version);
    }
    if (a.grad_bias != nullptr && !together) bias_gradient(context, a, naive);
}

}  // namespace

namespace cuda {

void linear_forward(const Context& context, const LinearForward<float>& a, Version version) {
    forward(context, a, version);
}
void linear_forward(const Context& context, const LinearForward<bfloat16>& a, Version version) {
    forward(context, a, version);
}
void linear_backward_data(const Context& context, const LinearBackwardData<float>& a, Version version) {
    backward_data(context, a, version);
}
void linear_backward_data(const Context& context, const LinearBackwardData<bfloat16>& a, Version version) {
    backward_data(context, a, version);
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<float>& a, Version version) {
    backward_weights(context, a, version);
}
void linear_backward_weights(const Context& context, const LinearBackwardWeights<bfloat16>& a,
                             Version version) {
    backward_weights(context, a, version);
}

}  // namespace cuda
}  // namespace ito::kernels
