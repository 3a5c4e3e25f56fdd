#include "core/choices.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/context.h"
#include "core/error.h"
#include "core/io/json_depth.h"
#include "kernels/common/choices.h"

namespace ito {

VariantMap variant_choices(Device device) {
    const auto* const choices = context_of(device).choices;
    return choices == nullptr ? VariantMap{} : choices->all();
}

void set_variant_choices(Device device, VariantMap choices) {
    if (auto* const known = context_of(device).choices) known->replace(std::move(choices));
}

std::vector<std::string> take_choice_notices(Device device) {
    auto* const choices = context_of(device).choices;
    return choices == nullptr ? std::vector<std::string>{} : choices->take_notices();
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
    const kernels::Context& context = context_of(device);
    if (device.is_cpu() || context.cudnn() != nullptr) return "";
    return "cuDNN is not used, convolutions run by hand-written kernels: " +
           context.libraries->why_not_cudnn();
}

}  // namespace ito
