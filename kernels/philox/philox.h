#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as
// 1, 2, 3"), addressed so that every draw of a training run has its own coordinates and none is stored.
//
// A draw is addressed by (seed; subsequence; offset), as in cuRAND's curand_init, and equals cuRAND's Philox
// for the same three numbers bit for bit:
//
//   key         = seed                       64 bits, low word first
//   counter     = [offset / 4 (64 bits), subsequence (64 bits)], low words first
//   word        = philox(counter, key)[offset % 4]
//
//   subsequence = purpose (4 bits) | layer (20 bits) | sample (40 bits)     most significant first
//   offset      = step   (32 bits) | element (32 bits)
//
//   purpose  what the draw is for, so that noise and dropout can never share bits
//   layer    which dropout layer (or which parameter tensor) draws; 0 where there is only one
//   sample   index of the sample in the batch (training) or in the run (sampling), so that a sample's
//            noise depends on its seed and index alone, never on the size of the batch
//   step     optimizer step (training) or timestep (sampling)
//   element  index of the element inside one sample, in logical NHWC order, whatever the row stride
//
// Normals come four at a time from the four words of a block by Box-Muller, in cuRAND's order.

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/common/value_pointer.h"

namespace ito::kernels {

enum class Purpose : std::uint32_t {
    noise = 0,     ///< eps of q(x_t | x_0) in training
    dropout = 1,   ///< dropout masks
    timestep = 2,  ///< t ~ Uniform(0, T)
    init = 3,      ///< parameter initialisation
    shuffle = 4,   ///< order of the data
    flip = 5,      ///< random horizontal flips
    start = 6,     ///< x_T of a sampling run
    label = 7,     ///< dropping of class labels
    reverse = 8,   ///< z of a step of the reverse process; `step` is the timestep
    test = 15,     ///< free for tests
};

/// The addresses of the draws of one kernel launch. The kernel reads `step` through its pointer when it runs, so
/// that a captured CUDA graph can be replayed for the next step; null stands for step 0.
struct PhiloxAddress {
    std::uint64_t seed = 0;
    Purpose purpose = Purpose::noise;
    std::uint32_t layer = 0;                   ///< at most 2^20 - 1
    std::uint64_t first_sample = 0;            ///< sample index of batch element 0; at most 2^40 - 1
    ValuePointer<const std::uint64_t> step{};  ///< at most 2^32 - 1
};

constexpr std::uint64_t philox_subsequence(Purpose purpose, std::uint32_t layer, std::uint64_t sample) {
    return (static_cast<std::uint64_t>(purpose) << 60) |
           (static_cast<std::uint64_t>(layer & 0xfffffu) << 40) | (sample & 0xffffffffffull);
}

constexpr std::uint64_t philox_offset(std::uint64_t step, std::uint64_t element) {
    return (step << 32) | (element & 0xffffffffull);
}

/// Subsequence of batch element `sample` of a launch.
constexpr std::uint64_t philox_subsequence(const PhiloxAddress& address, std::uint64_t sample) {
    return philox_subsequence(address.purpose, address.layer, address.first_sample + sample);
}

/// The step of an address, read on the host: for the CPU's kernels.
inline std::uint64_t philox_step(const PhiloxAddress& address) {
    require_memory("philox", address.step, Memory::host);
    return address.step ? *address.step : 0;
}

/// The four 32-bit words of block `block` = offset / 4.
constexpr std::array<std::uint32_t, 4> philox_block(std::uint64_t seed, std::uint64_t subsequence,
                                                    std::uint64_t block) {
    std::uint32_t c0 = static_cast<std::uint32_t>(block), c1 = static_cast<std::uint32_t>(block >> 32);
    std::uint32_t c2 = static_cast<std::uint32_t>(subsequence),
                  c3 = static_cast<std::uint32_t>(subsequence >> 32);
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
        const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = static_cast<std::uint32_t>(p1);
        c2 = n2;
        c3 = static_cast<std::uint32_t>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
}

/// One 32-bit word.
constexpr std::uint32_t philox_word(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset) {
    return philox_block(seed, subsequence, offset / 4)[offset % 4];
}

/// Uniform in (0, 1], as curand_uniform: word * 2^-32 + 2^-33 in float32.
constexpr float uniform_of(std::uint32_t word) {
    return static_cast<float>(word) * 2.3283064e-10f + 2.3283064e-10f / 2.0f;
}

/// Two normals of two words, as curand's Box-Muller: (s sin v, s cos v), s = sqrt(-2 log u).
inline std::array<float, 2> box_muller(std::uint32_t a, std::uint32_t b) {
    const float u = uniform_of(a);
    const float v =
        static_cast<float>(b) * (2.3283064e-10f * 6.2831855f) + (2.3283064e-10f * 6.2831855f / 2.0f);
    const float s = std::sqrt(-2.0f * std::log(u));
    return {s * std::sin(v), s * std::cos(v)};
}

/// The four normals of a block.
inline std::array<float, 4> normals_of(const std::array<std::uint32_t, 4>& words) {
    const auto low = box_muller(words[0], words[1]), high = box_muller(words[2], words[3]);
    return {low[0], low[1], high[0], high[1]};
}

/// A dropout element is kept when its word is below this: P(keep) = 1 - p to within 2^-32.
inline std::uint64_t keep_threshold(float drop_probability) {
    return static_cast<std::uint64_t>((1.0 - static_cast<double>(drop_probability)) * 4294967296.0);
}

}  // namespace ito::kernels
