#include "core/choices.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/cuda/cuda.h"
#include "core/error.h"
#include "core/io/json_depth.h"
#include "kernels/common/choices.h"

namespace ito {
namespace {

bool autotune_on = true;

}  // namespace

void set_autotune(bool on) {
    autotune_on = on;
    cuda::set_autotune(on);
}
bool autotune() {
    return autotune_on;
}

VariantMap variant_choices(Device device) {
    return device.is_cpu() ? VariantMap{} : cuda::choices(device.index).all();
}

void set_variant_choices(Device device, VariantMap choices) {
    if (!device.is_cpu()) cuda::choices(device.index).replace(std::move(choices));
}

std::vector<std::string> take_choice_notices(Device device) {
    return device.is_cpu() ? std::vector<std::string>{} : cuda::choices(device.index).take_notices();
}

std::string choices_to_json(const VariantMap& choices) {
    return nlohmann::json(choices).dump(2) + "\n";
}

VariantMap choices_from_json(const std::string& text, const std::string& source) {
    require_shallow_json(text, source);
    VariantMap choices;
    try {
        const auto json = nlohmann::json::parse(text);
        require(json.is_object(), "{}: expected an object of kernels and their variants", source);
        for (const auto& [key, value] : json.items()) {
            require(value.is_string(), "{}: \"{}\" must be a string, the variant that runs", source, key);
            choices[key] = value.get<std::string>();
        }
    } catch (const nlohmann::json::exception& error) {
        fail("{}: {}", source, error.what());
    }
    return choices;
}

std::string why_no_cudnn(Device device) {
    return device.is_cpu() ? "" : cuda::why_no_cudnn(device.index);
}

}  // namespace ito
