#pragma once
// The device of a tensor, on which its kernels run; chosen at run time.

#include <string>
#include <string_view>
#include <vector>

namespace ito {

/// The CPU, or one GPU.
struct Device {
    enum class Kind { cpu, cuda };
    Kind kind = Kind::cpu;
    int index = 0;

    static Device cpu() { return {}; }
    static Device cuda(int index = 0) { return {Kind::cuda, index}; }

    /// "cpu", "cuda", "cuda:1", or "auto": CUDA when this build has it and a usable device answers, else the
    /// CPU. Throws Error for anything else, and for a device that is not there.
    static Device parse(std::string_view text);

    bool is_cpu() const { return kind == Kind::cpu; }
    bool is_cuda() const { return kind == Kind::cuda; }
    bool operator==(const Device&) const = default;
};

std::string to_string(const Device& device);

/// One line for every usable CUDA device with its name, compute capability and memory; empty in a build without CUDA.
std::vector<std::string> cuda_devices();

}  // namespace ito
