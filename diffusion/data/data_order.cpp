#include "diffusion/data/data_order.h"

#include <numeric>
#include <utility>

#include "core/error.h"
#include "kernels/philox/philox.h"

namespace ito::diffusion {

DataOrder::DataOrder(std::int64_t count, std::uint64_t seed) : count_(count), seed_(seed) {
    require(count >= 1, "training: the data set has no images");
}

void DataOrder::shuffle(std::uint64_t epoch) {
    epoch_ = epoch;
    permutation_.resize(static_cast<std::size_t>(count_));
    std::iota(permutation_.begin(), permutation_.end(), std::int64_t{0});
    // Fisher-Yates; the bias of reducing 32 bits to a bound below 2^32 by multiplication is under count / 2^32.
    const auto subsequence = kernels::philox_subsequence(kernels::Purpose::shuffle, 0, epoch);
    for (std::uint64_t i = permutation_.size() - 1; i > 0; --i) {
        const std::uint64_t word = kernels::philox_word(seed_, subsequence, i);
        std::swap(permutation_[i], permutation_[(word * (i + 1)) >> 32]);
    }
}

std::vector<std::int64_t> DataOrder::batch(std::uint64_t first, std::int64_t size) {
    std::vector<std::int64_t> indices(static_cast<std::size_t>(size));
    const auto count = static_cast<std::uint64_t>(count_);
    for (std::uint64_t i = 0; i < indices.size(); ++i) {
        const std::uint64_t epoch = (first + i) / count;
        if (epoch != epoch_) shuffle(epoch);
        indices[i] = permutation_[(first + i) % count];
    }
    return indices;
}

}  // namespace ito::diffusion
