#pragma once
// The order in which training sees the data.

#include <cstdint>
#include <vector>

namespace ito::diffusion {

/// An endless sequence of image indices: every epoch a new permutation, drawn from Philox at (seed, shuffle,
/// epoch). Position p of the sequence follows from p alone, so that training resumes anywhere.
class DataOrder {
  public:
    DataOrder(std::int64_t count, std::uint64_t seed);

    /// Indices of positions [first, first + size); a batch may straddle two epochs.
    std::vector<std::int64_t> batch(std::uint64_t first, std::int64_t size);

  private:
    void shuffle(std::uint64_t epoch);

    std::int64_t count_;
    std::uint64_t seed_;
    std::uint64_t epoch_ = ~std::uint64_t{0};
    std::vector<std::int64_t> permutation_;
};

}  // namespace ito::diffusion
