#pragma once
// PyTorch's CPU generator for float32 normals, so that tests can repeat numbers published from it.
// torch.randn(n) with n >= 16: n uniforms of 24 bits from a 32-bit Mersenne Twister, then Box-Muller on
// blocks of 16 (cosines from the first eight, sines into the last eight); a rest redraws the last 16 values.

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <stdexcept>
#include <vector>

namespace ito::testing {

class TorchRandom {
  public:
    explicit TorchRandom(std::uint32_t seed) : engine_(seed) {}

    std::vector<float> randn(std::size_t n) {
        if (n < 16)
            throw std::invalid_argument("TorchRandom: fewer than 16 values are drawn by another rule");
        std::vector<float> values(n);
        for (float& value : values) value = uniform();
        for (std::size_t i = 0; i + 16 <= n; i += 16) box_muller(&values[i]);
        if (n % 16 != 0) {
            float* last = &values[n - 16];
            for (std::size_t i = 0; i < 16; ++i) last[i] = uniform();
            box_muller(last);
        }
        return values;
    }

  private:
    float uniform() { return static_cast<float>(engine_() & 0xFFFFFFu) / 16777216.0f; }

    static void box_muller(float* d) {
        for (std::size_t j = 0; j < 8; ++j) {
            const float radius = std::sqrt(-2 * std::log(1 - d[j]));
            const float theta = 2 * std::numbers::pi_v<float> * d[j + 8];
            d[j] = radius * std::cos(theta);
            d[j + 8] = radius * std::sin(theta);
        }
    }

    std::mt19937 engine_;
};

}  // namespace ito::testing
