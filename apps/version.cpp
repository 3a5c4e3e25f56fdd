#include "apps/version.h"

#include <dnnl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <png.h>
#include <webp/decode.h>
#include <zlib.h>

#include <CLI/Version.hpp>
#include <cstdio>  // jpeglib.h uses FILE without including it
#include <nlohmann/json.hpp>

#include <jpeglib.h>

#include "core/dispatch.h"
#include "git_description.h"
#include "kernels/cpu/instruction_set.h"

namespace ito::apps {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitizers = true;
#else
constexpr bool sanitizers = false;
#endif
#if ITO_RED_ZONES
constexpr bool red_zones = true;
#else
constexpr bool red_zones = false;
#endif

constexpr const char* on_off(bool on) {
    return on ? "on" : "off";
}

/// Highway's name of an instruction set in its usual spelling.
std::string common_name(const std::string& target) {
    if (target == "SCALAR" || target == "EMU128") return "portable";
    return target.starts_with("AVX3") ? fmt::format("AVX-512{}", target.substr(4)) : target;
}

#define ITO_TEXT_OF(x) #x
#define ITO_TEXT(x) ITO_TEXT_OF(x)
#ifdef LIBJPEG_TURBO_VERSION
constexpr const char* jpeg = "libjpeg-turbo " ITO_TEXT(LIBJPEG_TURBO_VERSION);
#else
constexpr const char* jpeg = "libjpeg " ITO_TEXT(JPEG_LIB_VERSION);
#endif

}  // namespace

std::string version_line() {
    constexpr std::string_view git = ITO_GIT_DESCRIPTION;
    return git.empty() ? "ito " ITO_VERSION : fmt::format("ito " ITO_VERSION " ({})", git);
}

std::string build_line() {
    return fmt::format("{} by {}; CUDA {}, virtual GPU {}, red zones {}, sanitizers {}", ITO_BUILD_TYPE,
                       ITO_COMPILER, on_off(built_with_cuda), on_off(ITO_WITH_VGPU), on_off(red_zones),
                       on_off(sanitizers));
}

std::string instruction_set_line() {
    auto all = kernels::compiled_instruction_sets();
    for (auto& name : all) name = common_name(name);
    return fmt::format("{}, of {}", common_name(kernels::instruction_set()), fmt::join(all, ", "));
}

std::string libraries_line() {
    const dnnl_version_t& dnnl = *dnnl_version();
    const int webp = WebPGetDecoderVersion();  // a byte each of major, minor and revision
    return fmt::format(
        "oneDNN {}.{}.{}, Highway {}, fmt {}.{}.{}, CLI11 {}, nlohmann-json {}.{}.{}, libpng {}, {}, "
        "libwebp {}.{}.{}, zlib {}",
        dnnl.major, dnnl.minor, dnnl.patch, ITO_HIGHWAY_VERSION, FMT_VERSION / 10000, FMT_VERSION / 100 % 100,
        FMT_VERSION % 100, CLI11_VERSION, NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
        NLOHMANN_JSON_VERSION_PATCH, png_get_libpng_ver(nullptr), jpeg, webp >> 16, webp >> 8 & 0xff,
        webp & 0xff, zlibVersion());
}

std::string version_text() {
    return fmt::format("{}\nbuild            {}\ninstruction set  {}\nlibraries        {}", version_line(),
                       build_line(), instruction_set_line(), libraries_line());
}

}  // namespace ito::apps
