// unet/config.json: what was accepted, written and read again is the same.

#include "nn/unet.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(unet_config) {
    nn::UNetConfig config;
    std::vector<std::string> notes;
    if (!fuzz::accepts(
            [&] { config = nn::UNetConfig::from_json(std::string(fuzz::text_of(input)), "f", &notes); }))
        return;
    for (const auto& note : notes) fuzz::expect_one_line(note);
    const std::string written = config.to_json();
    fuzz::expect(nn::UNetConfig::from_json(written, "w") == config, "another network after {}", written);
}
