#include "core/ops/noising.h"

#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/noising/noising.h"

namespace ito::ops {

Tensor noising(const NoisingInput& in) {
    require(in.images.rank() == 4 && in.images.is_contiguous(),
            "noising: images must be dense [N, H, W, C], shape is {}", in.images.shape());
    require(in.t.rank() == 1, "noising: t must be [N], its shape is {}", in.t.shape());
    require(in.signal.shape() == in.sigma.shape() && in.signal.rank() == 1,
            "noising: signal and sigma must be tables over t, their shapes are {} and {}", in.signal.shape(),
            in.sigma.shape());
    require_same_device("noising", {in.images, in.t, in.signal, in.sigma, in.index});
    const std::int64_t batch = in.t.dim(0), count = in.images.dim(0), steps = in.signal.dim(0);
    require(!in.index || in.index.shape() == in.t.shape(), "noising: {} timesteps, but index has shape {}",
            batch, shape_of(in.index));
    require(in.index || count >= batch, "noising: {} timesteps for {} images", batch, count);
    const Tensor all_t = in.t.contiguous(), index = in.index ? in.index.contiguous() : in.index;
    const Tensor signal = in.signal.contiguous(), sigma = in.sigma.contiguous();
    if (in.t.device().is_cpu()) {
        for (std::int64_t n = 0; n < batch; ++n) {
            const auto t = all_t.data<std::int64_t>()[n];
            require(t >= 0 && t < steps, "noising: timestep {} is out of range; expected [0, {})", t, steps);
            if (!index) continue;
            const auto i = index.data<std::int64_t>()[n];
            require(i >= 0 && i < count, "noising: image {} of {} does not exist", i, count);
        }
    }
    require(in.images.dtype() == DType::uint8 || in.images.dtype() == in.type,
            "noising: images must be uint8 or {}, they are {}", name_of(in.type), name_of(in.images.dtype()));
    const Device device = in.images.device();
    Tensor x_t =
        Tensor::empty({batch, in.images.dim(1), in.images.dim(2), in.images.dim(3)}, in.type, device);
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>("noising", device, in.type, [&]<class T>() {
        using Accum = kernels::accum_t<T>;
        const auto launch = [&]<class Source>(const Source* images) {
            ITO_LAUNCH(device, noising, context_of(device),
                       kernels::Noising<T, Source>{.batch = batch,
                                                   .height = in.images.dim(1),
                                                   .width = in.images.dim(2),
                                                   .images = images,
                                                   .index = index ? index.data<std::int64_t>() : nullptr,
                                                   .flip = in.flip,
                                                   .t = all_t.data<std::int64_t>(),
                                                   .signal = signal.data<Accum>(),
                                                   .sigma = sigma.data<Accum>(),
                                                   .noise = in.noise,
                                                   .x_t = x_t.rows<T>()});
        };
        if (in.images.dtype() == DType::uint8)
            launch(in.images.data<std::uint8_t>());
        else
            launch(in.images.data<T>());
    });
    return x_t;
}

}  // namespace ito::ops
