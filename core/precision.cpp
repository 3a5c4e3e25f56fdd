#include "core/precision.h"

#include "core/cuda/cuda.h"
#include "core/error.h"

namespace ito {

const char* name_of(Precision precision) {
    switch (precision) {
        case Precision::float32:
            return "float32";
        case Precision::tf32:
            return "tf32";
        case Precision::bfloat16:
            return "bfloat16";
    }
    return "?";
}

Precision parse_precision(const std::string& text, const Device& device) {
    require(text == "auto" || text == "float32" || text == "tf32" || text == "bfloat16",
            "`precision` {}: expected auto, float32, tf32 or bfloat16", excerpt(text, 40));
    if (device.is_cpu()) {
        require(text == "auto" || text == "float32",
                "`precision` {}: the CPU computes in float32; use that, or `device` cuda", text);
        return Precision::float32;
    }
    if (text == "float32") return Precision::float32;
    const cuda::DeviceInfo info = cuda::device_info(device.index);
    const bool capable = info.major >= 8;
    if (text == "auto") return capable ? Precision::bfloat16 : Precision::float32;
    require(capable, "`precision` {}: {} has compute capability {}.{}, 8.0 is needed; use float32", text,
            info.name, info.major, info.minor);
    return text == "tf32" ? Precision::tf32 : Precision::bfloat16;
}

}  // namespace ito
