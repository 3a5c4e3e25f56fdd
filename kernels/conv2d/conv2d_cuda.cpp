// The CUDA launchers of the convolution: which variant runs. Each is a hand-written one (conv2d_*.cu) or a plan of cuDNN
// (conv2d_cudnn_plan.h) with the passes that it leaves to us.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <string_view>
#include <type_traits>

#include "kernels/common/plan_cache.h"
#include "kernels/common/scratch.h"
#include "kernels/conv2d/conv2d_cudnn_plan.h"
#include "kernels/conv2d/conv2d_variants.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/elementwise/elementwise.h"

namespace ito::kernels {
namespace {

using namespace conv2d_detail;

constexpr std::size_t timed_plans = 8;

cudnnHandle_t cudnn_of(const Context& context) {
    return static_cast<cudnnHandle_t>(context.cudnn());
}

constexpr std::string_view linear_word = "linear";

/// A way to compute a convolution.
struct Candidate {
    Variant variant = Variant::tiled;  ///< `best`: the linear layer's
    CudnnPlanPointer plan;             ///< of Variant::cudnn
    bool separate = false;             ///< the plan leaves residual and bias to a pass of its own
};

std::string cudnn_prefix() {
    return "cudnn " + std::to_string(cudnnGetVersion()) + " ";
}
constexpr std::string_view separate_word = "separate ";

/// What choices are recorded under: all that the time depends on.
std::string key_of(const CudnnProblem& p) {
    constexpr const char* names[] = {"conv2d_forward", "conv2d_backward_data", "conv2d_backward_weights"};
    const Conv2dShape& s = p.shape;
    std::string key = names[static_cast<int>(p.pass)];
    const auto add = [&](std::string_view before, std::int64_t number) {
        key.append(before).append(std::to_string(number));
    };
    key.append(p.bfloat != 0 ? " bfloat16" : p.tf32 != 0 ? " tf32" : " float32");
    if (p.bfloat_result != 0) key.append(" into bfloat16");
    add(" ", s.batch), add("x", s.height), add("x", s.width), add("x", s.in_channels);
    add(" -> ", s.out_channels), add(" ", s.kernel_h), add("x", s.kernel_w), add(" s", s.stride);
    add(" p", s.pad_top), add(",", s.pad_left), add(",", s.pad_bottom), add(",", s.pad_right);
    if (p.residual != 0) key.append(" residual");
    if (p.bias != 0) key.append(" bias");
    if (p.accumulate != 0) key.append(" accumulate");
    if (p.x_stride != s.in_channels) add(" x/", p.x_stride);
    if (p.y_stride != s.out_channels) add(" y/", p.y_stride);
    if (p.residual != 0 && p.residual_stride != s.out_channels) add(" residual/", p.residual_stride);
    const std::int64_t alignment =
        std::min({p.x_alignment, p.weight_alignment, p.y_alignment, p.residual_alignment, p.bias_alignment});
    if (alignment < 16) add(" align ", alignment);
    return key;
}

/// One call of a convolution: a Family for choose().
class Call {
  public:
    using Candidate = kernels::Candidate;

    Call(const Context& context, const CudnnProblem& problem) : context_(context), problem_(problem) {}
    virtual ~Call() = default;

    std::string text(const Candidate& v) const {
        if (v.plan == nullptr) return std::string(word_of(v.variant));
        std::string made = cudnn_prefix();
        return made.append(v.separate ? separate_word : "").append(v.plan->engine().text());
    }

    std::optional<Candidate> recreate(std::string_view text) const {
        for (const Variant variant : by_hand())
            if (text == word_of(variant)) return Candidate{variant, nullptr, false};
        if (cudnn_of(context_) == nullptr || !library_computes() || !skip(text, cudnn_prefix()))
            return std::nullopt;
        const bool separate = skip(text, separate_word);
        const auto engine = CudnnEngine::parse(text);
        if (!engine) return std::nullopt;
        CudnnPlanPointer plan = cudnn_plan(separate ? alone() : problem_, device(), *engine);
        if (plan == nullptr) return std::nullopt;
        return Candidate{Variant::cudnn, std::move(plan), separate};
    }

    std::vector<Candidate> candidates(bool all) const {
        std::vector<Candidate> found = plans(all ? timed_plans : 1);
        if (all || found.empty())
            for (const Variant variant : by_hand()) found.push_back({variant, nullptr, false});
        return found;
    }

    /// Runs a variant; `best` is chosen where there is something to choose from.
    void run(Variant wanted) {
        if (wanted == Variant::best) return run(best());
        const std::vector<Variant> hand = by_hand();
        const std::vector<Candidate> found = wanted == Variant::cudnn ? plans(1) : std::vector<Candidate>();
        // Asking for the handle loads the library.
        const bool no_handle = wanted == Variant::cudnn && cudnn_of(context_) == nullptr;
        const Variant chosen =
            choose_variant(key_of(problem_).c_str(), wanted,
                           {{Variant::naive},
                            {Variant::tiled},
                            {Variant::mma, std::find(hand.begin(), hand.end(), Variant::mma) != hand.end(),
                             "bfloat16, and a shape and an alignment that it takes (conv2d.h)"},
                            {Variant::cudnn, !found.empty(),
                             no_handle ? "cuDNN, of which the context has no handle"
                                       : "an engine of cuDNN, which has none here"}});
        if (chosen == Variant::cudnn)
            run(found.front());
        else
            run_by_hand(chosen);
    }

    void run(const Candidate& v) {
        if (v.plan == nullptr) return run_by_hand(v.variant);
        cudnnHandle_t const handle = cudnn_of(context_);
        cudnn::check(cudnnSetStream(handle, static_cast<cudaStream_t>(context_.stream.handle)),
                     "cudnnSetStream");
        const Scratch<std::byte> workspace(context_, v.plan->workspace_bytes());
        by_plan(v, handle, workspace);
    }

    virtual std::vector<Accumulated> accumulated() const { return {}; }

    /// The fastest variant, found at the first call of this problem.
    virtual Candidate best() {
        struct Key {
            CudnnProblem problem;
            std::int64_t generation, has_cudnn;
        } const key{problem_, context_.choices != nullptr ? context_.choices->generation() : 0,
                    cudnn_of(context_) != nullptr};
        const auto choose_now = [&] {
            return std::make_shared<Candidate>(choose(context_, key_of(problem_), *this));
        };
        if (context_.plans == nullptr) return *choose_now();
        return context_.plans->get<Candidate>("conv2d", key, choose_now);
    }

  protected:
    virtual std::vector<Variant> by_hand() const = 0;
    virtual void run_by_hand(Variant variant) = 0;
    virtual void by_plan(const Candidate& v, cudnnHandle_t handle, void* workspace) = 0;
    /// False where cuDNN is not asked at all.
    virtual bool library_computes() const {
        const Conv2dShape& s = problem_.shape;
        return s.batch > 0 && s.in_channels > 0 && s.out_channels > 0 && s.out_height() > 0 &&
               s.out_width() > 0;
    }

    const Context& context_;
    CudnnProblem problem_;

  private:
    static std::string_view word_of(Variant variant) {
        return variant == Variant::best ? linear_word : name_of(variant);
    }
    static cudnn::Descriptor device() {
        int index = 0;
        check_cuda(cudaGetDevice(&index), "cudaGetDevice");
        return cudnn_device(index);
    }
    /// Without residual and bias.
    CudnnProblem alone() const {
        CudnnProblem p = problem_;
        p.residual = p.bias = 0, p.residual_stride = 0, p.residual_alignment = p.bias_alignment = 16;
        return p;
    }
    std::vector<Candidate> plans(std::size_t limit) const {
        std::vector<Candidate> found;
        if (cudnn_of(context_) == nullptr || !library_computes()) return found;
        const cudnn::Descriptor here = device();
        for (CudnnPlanPointer& plan : cudnn_plans(problem_, here, limit))
            found.push_back({Variant::cudnn, std::move(plan), false});
        if (found.empty() && problem_.pass == CudnnPass::forward &&
            (problem_.residual != 0 || problem_.bias != 0))
            for (CudnnPlanPointer& plan : cudnn_plans(alone(), here, limit))
                found.push_back({Variant::cudnn, std::move(plan), true});
        cudaGetLastError();  // of plans that could not be made: the next launch, whose check reads it, would be blamed
        return found;
    }
};

template <class T>
CudnnProblem problem_of(const Context& context, CudnnPass pass, const Conv2dShape& shape,
                        const View<const T>& x, const void* weight, const View<const T>& y) {
    constexpr bool bfloat = std::is_same_v<T, bfloat16>;
    return {.pass = pass,
            .shape = shape,
            .bfloat = bfloat,
            .tf32 = !bfloat && context.math == MathMode::tf32,
            .x_stride = x.stride,
            .y_stride = y.stride,
            .x_alignment = common_alignment({x.data}),
            .weight_alignment = common_alignment({weight}),
            .y_alignment = common_alignment({y.data})};
}

template <class T>
class Forward final : public Call {
  public:
    Forward(const Context& context, const Conv2dForward<T>& a)
        : Call(context, problem_of<T>(context, CudnnPass::forward, a.shape, a.x, a.weight, a.y)), a_(a) {
        problem_.bias = a.bias != nullptr, problem_.residual = static_cast<bool>(a.residual);
        problem_.residual_stride = a.residual.stride;
        problem_.residual_alignment = common_alignment({a.residual.data});
        // A bias that is rounded here lies in scratch memory.
        const void* const bias = std::is_same_v<T, float> ? static_cast<const void*>(a.bias) : a.rounded_bias;
        problem_.bias_alignment = common_alignment({bias});
    }

  private:
    std::vector<Variant> by_hand() const override { return hand_written(a_); }
    void run_by_hand(Variant variant) override { forward_by_hand(context_, a_, variant); }
    void by_plan(const Candidate& v, cudnnHandle_t handle, void* workspace) override {
        CudnnPointers at{.x = a_.x.data, .weight = a_.weight, .y = a_.y.data};
        Scratch<bfloat16> rounded;
        if (!v.separate) {
            at.residual = a_.residual.data, at.bias = a_.bias;
            if (a_.bias != nullptr && std::is_same_v<T, bfloat16>) {
                at.bias = a_.rounded_bias;
                if (at.bias == nullptr) {
                    const std::int64_t k = a_.shape.out_channels;
                    rounded = Scratch<bfloat16>(context_, k);
                    cuda::copy(context_, copy_of(a_.bias, k, rounded.get()));
                    at.bias = rounded.get();
                }
            }
        }
        v.plan->run(handle, at, workspace);
        if (v.separate) add_residual_and_bias(context_, a_);
    }
    /// Its kernels may read the residual after they have written y.
    bool library_computes() const override {
        return Call::library_computes() && a_.residual.data != a_.y.data;
    }

    const Conv2dForward<T>& a_;
};

template <class T>
class BackwardData final : public Call {
  public:
    BackwardData(const Context& context, const Conv2dBackwardData<T>& a)
        : Call(context,
               problem_of<T>(context, CudnnPass::backward_data, a.shape, a.grad_x, a.weight, a.grad_y)),
          a_(a) {
        problem_.accumulate = a.accumulate;
    }
    std::vector<Accumulated> accumulated() const override {
        if (!a_.accumulate) return {};
        constexpr auto bytes = static_cast<std::int64_t>(sizeof(T));
        const Conv2dShape& s = a_.shape;
        return {
            {a_.grad_x.data, s.batch * s.height * s.width, s.in_channels * bytes, a_.grad_x.stride * bytes}};
    }

  private:
    std::vector<Variant> by_hand() const override { return hand_written(a_); }
    void run_by_hand(Variant variant) override { backward_data_by_hand(context_, a_, variant); }
    void by_plan(const Candidate& v, cudnnHandle_t handle, void* workspace) override {
        v.plan->run(handle, {.x = a_.grad_x.data, .weight = a_.weight, .y = a_.grad_y.data}, workspace);
    }

    const Conv2dBackwardData<T>& a_;
};

/// The weights' gradient, and the bias gradient if it is wanted: some variants get it on the way.
template <class T>
class BackwardWeights final : public Call {
  public:
    BackwardWeights(const Context& context, const Conv2dBackwardWeights<T>& a)
        : Call(context,
               problem_of<T>(context, CudnnPass::backward_weights, a.shape, a.x, a.grad_weight, a.grad_y)),
          a_(a) {
        problem_.accumulate = a.accumulate_weight;
        problem_.bias = a.grad_bias != nullptr;
        if (std::is_same_v<T, bfloat16>) {
            problem_.bfloat_result = 1;
            problem_.weight_alignment = 16;
        }
    }
    std::vector<Accumulated> accumulated() const override {
        std::vector<Accumulated> results;
        const auto add = [&](float* data, std::int64_t count) {
            const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(float));
            results.push_back({data, 1, bytes, bytes});
        };
        if (a_.accumulate_weight) add(a_.grad_weight, a_.shape.weight_elements());
        if (a_.grad_bias != nullptr && a_.accumulate_bias) add(a_.grad_bias, a_.shape.out_channels);
        return results;
    }

    /// `best` rounds a gradient to bfloat16 only where that is asked for.
    Candidate best() override {
        if (std::is_same_v<T, bfloat16> && !context_.bfloat16_weight_gradients) problem_.bfloat_result = 0;
        return Call::best();
    }

  private:
    std::vector<Variant> by_hand() const override { return hand_written(a_); }
    void run_by_hand(Variant variant) override { backward_weights_by_hand(context_, a_, variant); }
    void by_plan(const Candidate& v, cudnnHandle_t handle, void* workspace) override {
        CudnnPointers at{.x = a_.x.data, .weight = a_.grad_weight, .y = a_.grad_y.data};
        if constexpr (std::is_same_v<T, bfloat16>) {
            const std::int64_t count = a_.shape.weight_elements();
            const Scratch<bfloat16> rounded(context_, count);
            at.weight = rounded.get();
            v.plan->run(handle, at, workspace);
            widen_gradient(context_, rounded, count, a_.grad_weight, a_.accumulate_weight);
        } else {
            v.plan->run(handle, at, workspace);
        }
        if (a_.grad_bias == nullptr) return;
        Conv2dBackwardWeights<T> bias = a_;
        bias.grad_weight = nullptr;
        backward_weights_by_hand(context_, bias, Variant::tiled);
    }
    /// It has no usable plan for a float32 gradient of bfloat16 tensors.
    bool library_computes() const override {
        return Call::library_computes() && (problem_.bfloat == 0 || problem_.bfloat_result != 0);
    }

    const Conv2dBackwardWeights<T>& a_;
};

}  // namespace

namespace cuda {

template <CudaFloat T>
void conv2d_forward(const Context& context, const Conv2dForward<T>& a, Variant variant) {
    Forward<T>(context, a).run(variant);
}
template <CudaFloat T>
void conv2d_backward_data(const Context& context, const Conv2dBackwardData<T>& a, Variant variant) {
    BackwardData<T>(context, a).run(variant);
}
template <CudaFloat T>
void conv2d_backward_weights(const Context& context, const Conv2dBackwardWeights<T>& a, Variant variant) {
    // Of the bias gradient alone cuDNN knows nothing, and there is nothing to time.
    const bool bias_alone = a.grad_weight == nullptr;
    if (bias_alone && variant == Variant::best)
        return backward_weights_by_hand(context, a, hand_written(a).front());
    BackwardWeights<T>(context, a).run(bias_alone && variant == Variant::cudnn ? Variant::tiled : variant);
}

ITO_FOR_CUDA_TYPES(conv2d_forward, Conv2dForward);
ITO_FOR_CUDA_TYPES(conv2d_backward_data, Conv2dBackwardData);
ITO_FOR_CUDA_TYPES(conv2d_backward_weights, Conv2dBackwardWeights);

}  // namespace cuda
}  // namespace ito::kernels
