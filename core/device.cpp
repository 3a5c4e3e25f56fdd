#include "core/device.h"

#include "core/cuda/cuda.h"
#include "core/error.h"

namespace ito {

Device Device::parse(std::string_view text) {
    if (text == "cpu") return cpu();
    if (text == "auto") return ito::cuda::device_count() > 0 ? cuda() : cpu();
    if (text == "cuda" || text.starts_with("cuda:")) {
        int index = 0;
        if (const auto digits = text.substr(std::min<std::size_t>(5, text.size())); !digits.empty()) {
            for (const char c : digits) {
                require(c >= '0' && c <= '9' && digits.size() < 5,
                        "device '{}': expected cuda:N with N a number", text);
                index = index * 10 + (c - '0');
            }
        } else {
            require(text == "cuda", "device '{}': expected cuda:N with N a number", text);
        }
        const int count = ito::cuda::device_count();
        require(count > 0, "device '{}': {}; use `device` cpu", text, ito::cuda::why_no_device());
        require(index < count, "device '{}': there {}; expected cuda:0 to cuda:{}", text,
                count == 1 ? "is one CUDA device" : fmt::format("are {} CUDA devices", count), count - 1);
        return cuda(index);
    }
    fail("device '{}': expected auto, cpu, cuda or cuda:N", text);
}

std::string to_string(const Device& device) {
    return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index);
}

std::vector<std::string> cuda_devices() {
    std::vector<std::string> all;
    for (int index = 0; index < ito::cuda::device_count(); ++index) {
        const auto info = ito::cuda::device_info(index);
        all.push_back(fmt::format("{}: {}, compute {}.{}, {:.1f} GiB", to_string(Device::cuda(index)),
                                  info.name, info.major, info.minor,
                                  static_cast<double>(info.memory) / (1u << 30)));
    }
    return all;
}

}  // namespace ito
