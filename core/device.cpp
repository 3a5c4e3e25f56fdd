#include "core/device.h"

#include "core/dispatch.h"
#include "core/error.h"

namespace ito {

Device Device::parse(std::string_view text) {
    if (text == "cpu") return cpu();
    if (text == "auto") return cuda_device_count() > 0 ? cuda() : cpu();
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
        require(built_with_cuda, "device '{}': this build of ito has no CUDA; use --device cpu", text);
        require(index < cuda_device_count(), "device '{}': {} CUDA devices answer here; use --device cpu",
                text, cuda_device_count());
        return cuda(index);
    }
    fail("device '{}': expected auto, cpu, cuda or cuda:N", text);
}

std::string to_string(const Device& device) {
    return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index);
}

std::vector<std::string> cuda_devices() {
    std::vector<std::string> all;
    for (int index = 0; index < cuda_device_count(); ++index) all.push_back(to_string(Device::cuda(index)));
    return all;
}

}  // namespace ito
