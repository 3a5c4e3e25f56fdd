#pragma once
// A convolution as cuDNN's backend API is asked for it: the operation graph of a problem, the engines that the heuristics
// name for it, and the plans made of them. Nothing here needs a device: with the properties of one as JSON, plans are made
// on a machine without a driver (tests/cudnn_plans).

#include <cudnn.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/conv2d/conv2d.h"
#include "kernels/cuda/cudnn_descriptor.h"

namespace ito::kernels::conv2d_detail {

enum class CudnnPass : std::int64_t { forward, backward_data, backward_weights };

/// All that a plan depends on. x, y: their gradients in the backward passes. No padding bytes: it is a key of PlanCache.
struct CudnnProblem {
    CudnnPass pass = CudnnPass::forward;
    Conv2dShape shape;
    std::int64_t bfloat = 0;  ///< x, y, residual and weights are bfloat16, else float32
    std::int64_t tf32 = 0;    ///< float32 factors may be rounded to TF32
    std::int64_t bias =
        0;  ///< forward: [K], of the type of y; backward_weights: its gradient is wanted beside
    std::int64_t residual = 0;    ///< forward
    std::int64_t accumulate = 0;  ///< backward: add to the result
    /// backward_weights: the gradient is bfloat16, else float32. It then overwrites: a pass of ours adds it to the float32 one.
    std::int64_t bfloat_result = 0;
    std::int64_t x_stride = 0, y_stride = 0, residual_stride = 0;  ///< elements from pixel to pixel
    /// Powers of two that the addresses are multiples of, in bytes, at most 16.
    std::int64_t x_alignment = 16, weight_alignment = 16, y_alignment = 16, residual_alignment = 16,
                 bias_alignment = 16;
};

/// Device addresses of a problem's tensors; null: not there.
struct CudnnPointers {
    const void *x = nullptr, *weight = nullptr, *y = nullptr, *residual = nullptr, *bias = nullptr;
};

/// What a plan is recreated from: an engine of the library's version and its settings.
struct CudnnEngine {
    std::int64_t index = -1;
    std::vector<std::pair<std::int64_t, std::int64_t>> knobs;  ///< type and value, by type

    /// "engine 37 knobs 2=1 17=4"
    std::string text() const;
    static std::optional<CudnnEngine> parse(std::string_view text);
    bool operator==(const CudnnEngine&) const = default;
};

/// The properties of a device, of the driver or as cuDNN's JSON: what heuristics and plans are made for.
cudnn::Descriptor cudnn_device(int index);
cudnn::Descriptor cudnn_device(const std::string& json);

/// Workspace that a plan may ask for.
inline constexpr std::int64_t cudnn_workspace_limit = 256 << 20;

/// A finalised plan, ready to run.
class CudnnPlan {
  public:
    CudnnPlan(CudnnEngine engine, cudnn::Descriptor plan);

    const CudnnEngine& engine() const { return engine_; }
    std::int64_t workspace_bytes() const { return workspace_bytes_; }
    /// Enqueues it on the handle's stream. `workspace` starts on 256 bytes.
    void run(cudnnHandle_t handle, const CudnnPointers& pointers, void* workspace) const;

  private:
    CudnnEngine engine_;
    cudnn::Descriptor plan_;
    std::int64_t workspace_bytes_;
};
using CudnnPlanPointer = std::shared_ptr<CudnnPlan>;

/// The plans that the heuristics (mode A, then B) name, best guess first, at most `limit`: deterministic engines that sum in
/// float32, for float32 without `tf32` none that uses the tensor cores, within cudnn_workspace_limit. Empty where there is none.
std::vector<CudnnPlanPointer> cudnn_plans(const CudnnProblem& problem, const cudnn::Descriptor& device,
                                          std::size_t limit);

/// The plan of a known engine; null where this library or device has it not, or it breaks the rules above.
CudnnPlanPointer cudnn_plan(const CudnnProblem& problem, const cudnn::Descriptor& device,
                            const CudnnEngine& engine);

}  // namespace ito::kernels::conv2d_detail
