#include "diffusion/training/trainer_state.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/json_depth.h"

namespace ito::diffusion {
namespace {

using Json = nlohmann::ordered_json;

/// More than any training counts to, and far from where counting on would overflow.
constexpr std::uint64_t largest = 1'000'000'000'000'000;

bool is_count(const Json& json) {
    return json.is_number_unsigned() && json.get<std::uint64_t>() <= largest;
}

MetricsWindow read_window(const Json& json, const std::string& source) {
    const auto is_number = [&](const char* key) { return json.contains(key) && json[key].is_number(); };
    require(json.is_object() && json.contains("steps") && is_count(json["steps"]) && is_number("loss") &&
                is_number("grad_norm"),
            "{}: \"window\" is missing or damaged", source);
    MetricsWindow window{
        json["steps"].get<std::int64_t>(), json["loss"].get<double>(), json["grad_norm"].get<double>(), {}};
    const Json quartiles = json.value("loss_by_timestep", Json());
    require(quartiles.is_array() && quartiles.size() == LossByTimestep::quartiles,
            "{}: \"loss_by_timestep\" is missing or damaged", source);
    for (std::size_t q = 0; q < quartiles.size(); ++q) {
        const Json& sum = quartiles[q];
        require(sum.is_array() && sum.size() == 2 && sum[0].is_number() && is_count(sum[1]),
                "{}: \"loss_by_timestep\" is missing or damaged", source);
        window.by_timestep.loss[q] = sum[0].get<double>();
        window.by_timestep.samples[q] = sum[1].get<std::int64_t>();
    }
    return window;
}

Json json_of(const MetricsWindow& window) {
    Json json{{"steps", window.steps}, {"loss", window.loss}, {"grad_norm", window.grad_norm}};
    json["loss_by_timestep"] = Json::array();
    for (std::size_t q = 0; q < LossByTimestep::quartiles; ++q)
        json["loss_by_timestep"].push_back(
            Json::array({window.by_timestep.loss[q], window.by_timestep.samples[q]}));
    return json;
}

}  // namespace

std::array<std::optional<double>, LossByTimestep::quartiles> LossByTimestep::means() const {
    std::array<std::optional<double>, quartiles> means;
    for (std::size_t q = 0; q < quartiles; ++q)
        if (samples[q] > 0) means[q] = loss[q] / static_cast<double>(samples[q]);
    return means;
}

std::string TrainerState::to_json() const {
    Json json;
    json["step"] = step;
    json["total_steps"] = total_steps;
    json["adam_steps"] = adam_steps;
    json["ema_updates"] = ema_updates;
    json["dataset"] = dataset;
    json["window"] = json_of(window);
    return json.dump(2) + "\n";
}

TrainerState TrainerState::from_json(const std::string& text, const std::string& source) {
    require_shallow_json(text, source);
    const Json json = Json::parse(text, nullptr, false);
    const auto count = [&](const char* key) {
        require(json.is_object() && json.contains(key) && is_count(json[key]),
                "{}: \"{}\" is missing or not a count", source, key);
        return json[key].get<std::int64_t>();
    };
    TrainerState state;
    state.step = count("step");
    state.total_steps = count("total_steps");
    state.adam_steps = count("adam_steps");
    state.ema_updates = count("ema_updates");
    const Json dataset = json.value("dataset", Json());
    require(dataset.is_array(), "{}: \"dataset\" is missing or no array", source);
    require(dataset.size() == state.dataset.size() && std::all_of(dataset.begin(), dataset.end(), is_count),
            "{}: \"dataset\" is {}, expected [images, height, width, channels]", source,
            excerpt(dataset.dump()));
    state.dataset = dataset.get<std::array<std::int64_t, 4>>();
    state.window = read_window(json.value("window", Json()), source);
    return state;
}

}  // namespace ito::diffusion
