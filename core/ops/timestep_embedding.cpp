#include "core/ops/timestep_embedding.h"

#include "core/context.h"
#include "core/dispatch.h"
#include "kernels/timestep_embedding/timestep_embedding.h"

namespace ito::ops {

Tensor timestep_embedding(const Tensor& t, std::int64_t dim, const TimestepEmbeddingOptions& options,
                          DType type) {
    require(t.rank() == 1 && t.dtype() == DType::int64,
            "timestep_embedding: t must be [N] int64, it is {} {}", name_of(t.dtype()), t.shape());
    require(dim >= 4, "timestep_embedding: dim must be at least 4, it is {}", dim);
    Tensor y = Tensor::empty({t.dim(0), dim}, type, t.device());
    const Tensor input = t.contiguous();
    dispatch<OnCpu<float, double>, OnCuda<float, bfloat16>>(
        "timestep_embedding", t.device(), type, [&]<class T>() {
            ITO_LAUNCH(t.device(), timestep_embedding, context_of(t.device()),
                       kernels::TimestepEmbedding<T>{.t = input.data<std::int64_t>(),
                                                     .flip_sin_to_cos = options.flip_sin_to_cos,
                                                     .freq_shift = options.freq_shift,
                                                     .y = y.rows<T>()});
        });
    return y;
}

}  // namespace ito::ops
