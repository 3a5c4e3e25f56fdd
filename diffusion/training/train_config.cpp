#include "diffusion/training/train_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/io/json_depth.h"

namespace ito::diffusion {

using Json = nlohmann::ordered_json;

namespace {

/// Reads exactly what the field can hold: the library's own conversion would cut 10.7 to 10, wrap numbers that
/// are too large, and take true for 1.
bool read_field(const Json& json, std::string& field) {
    if (json.is_string()) field = json.get<std::string>();
    return json.is_string();
}

bool read_field(const Json& json, bool& field) {
    if (json.is_boolean()) field = json.get<bool>();
    return json.is_boolean();
}

bool read_field(const Json& json, double& field) {
    if (json.is_number()) field = json.get<double>();
    return json.is_number() && std::isfinite(field);
}

bool read_field(const Json& json, std::uint64_t& field) {
    if (json.is_number_unsigned()) field = json.get<std::uint64_t>();
    return json.is_number_unsigned();
}

bool read_field(const Json& json, std::int64_t& field) {
    constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!json.is_number_integer() || (json.is_number_unsigned() && json.get<std::uint64_t>() > largest))
        return false;
    field = json.get<std::int64_t>();
    return true;
}

bool read_field(const Json& json, int& field) {
    std::int64_t wide = 0;
    if (!read_field(json, wide) || wide != static_cast<int>(wide)) return false;
    field = static_cast<int>(wide);
    return true;
}

bool read_field(const Json& json, std::vector<std::int64_t>& field) {
    if (!json.is_array()) return false;
    field.assign(json.size(), 0);
    return std::equal(json.begin(), json.end(), field.begin(),
                      [](const Json& from, std::int64_t& to) { return read_field(from, to); });
}

void check(const TrainOption&, bool) {}

template <class Number>
requires std::is_arithmetic_v<Number>
void check(const TrainOption& option, Number value) {
    const auto& [low, high, text] = option.range;
    const auto number = static_cast<double>(value);
    require(number >= low && number <= high, "`{}` {}: expected {}", option.name, value,
            *text ? text : fmt::format("{} to {}", static_cast<Number>(low), static_cast<Number>(high)));
}

void check(const TrainOption& option, const std::vector<std::int64_t>& values) {
    require(values.size() >= option.least && values.size() <= option.most,
            "`{}`: {} of them; expected {} to {}", option.name, values.size(), option.least, option.most);
    for (const auto value : values) check(option, value);
}

void check(const TrainOption& option, const std::string& text) {
    const auto& words = option.words;
    if (option.others == TrainOption::Others::none && !words.empty())
        require(std::count(words.begin(), words.end(), text) > 0, "`{}` {}: expected {} or {}", option.name,
                excerpt(text), fmt::join(words.begin(), words.end() - 1, ", "), words.back());
    try {
        static_cast<void>(Json(text).dump());
    } catch (const Json::exception&) {  // a path may be any bytes
        fail("`{}`: the name is not UTF-8, as which the run's config.json keeps it", option.name);
    }
}

/// What makes a chain of any length end about as noisy as one of 1000 steps.
double rescaling(std::int64_t timesteps) {
    return 1000.0 / static_cast<double>(timesteps);
}

}  // namespace

std::string TrainConfig::to_json() const {
    Json json;
    for_each_option([&](const TrainOption& option, const auto& field) { json[option.name] = field; }, *this);
    return json.dump(2) + "\n";
}

TrainConfig TrainConfig::from_json(const std::string& text, const std::string& source) {
    require_shallow_json(text, source);
    const Json json = Json::parse(text, nullptr, false);
    require(!json.is_discarded() && json.is_object(), "{}: not a JSON object", source);
    TrainConfig config;
    Json unknown = json;
    for_each_option(
        [&](const TrainOption& option, auto& field) {
            const auto found = json.find(option.name);
            if (found == json.end()) return;
            unknown.erase(option.name);
            require(read_field(*found, field), "{}: \"{}\" is {}, which is not of the expected kind", source,
                    option.name, excerpt(found->dump(-1, ' ', false, Json::error_handler_t::replace)));
        },
        config);
    require(unknown.empty(), "{}: unknown field \"{}\"", source,
            unknown.empty() ? "" : excerpt(unknown.begin().key()));
    try {
        config.validate();
    } catch (const Error& error) {
        fail("{}: {}", source, error.what());
    }
    return config;
}

void TrainConfig::validate() const {
    for_each_option([](const TrainOption& option, const auto& field) { check(option, field); }, *this);
    const Diffusion defaults, &d = diffusion;
    require(d.beta_start > 0 && d.beta_start <= d.beta_end && d.beta_end < 1,
            "`beta_start` {} `beta_end` {}: expected 0 < start <= end < 1", d.beta_start, d.beta_end);
    require(d.beta_schedule == "linear" ||
                (d.beta_start == defaults.beta_start && d.beta_end == defaults.beta_end && !d.rescale_betas),
            "`beta_schedule` {}: follows from the timesteps alone; leave out `beta_start`, `beta_end` and "
            "`rescale_betas`",
            d.beta_schedule);
    require(!d.rescale_betas || d.beta_end * rescaling(d.timesteps) < 1,
            "`rescale_betas`: with `timesteps` {} the last beta would be {:g}, expected less than 1; use at "
            "least {} timesteps",
            d.timesteps, d.beta_end * rescaling(d.timesteps),
            static_cast<std::int64_t>(1000 * d.beta_end) + 1);
}

nn::UNetConfig TrainConfig::unet(std::int64_t height, std::int64_t width, std::int64_t channels) const {
    const auto& channel_mults = model.channel_mults;
    const auto& attention_resolutions = model.attention_resolutions;
    const std::int64_t base_channels = model.base_channels, heads = model.heads;
    nn::UNetConfig config;
    config.in_channels = config.out_channels = channels;
    config.height = height;
    config.width = width;
    config.layers_per_block = model.layers_per_block;
    config.dropout = model.dropout;
    config.norm_num_groups = model.norm_groups ? model.norm_groups : nn::default_norm_groups(base_channels);
    config.block_out_channels.clear();
    config.attention.clear();
    const std::int64_t multiple = std::int64_t{1} << (channel_mults.size() - 1);
    require(height % multiple == 0 && width % multiple == 0,
            "`channel_mults` {}: {} levels need sides that are multiples of {}, the images are {}x{}; give "
            "fewer levels or `image_size` {}",
            fmt::join(channel_mults, ","), channel_mults.size(), multiple, height, width,
            // Of photographs' sizes the next multiple would need more memory than there is.
            std::max(height, width) > 256 ? std::int64_t{128}
                                          : (std::max(height, width) + multiple - 1) / multiple * multiple);
    std::vector<std::int64_t> resolutions;
    for (std::size_t i = 0; i < channel_mults.size(); ++i) {
        resolutions.push_back(std::max(height, width) >> i);
        config.block_out_channels.push_back(base_channels * channel_mults[i]);
        const bool listed = std::find(attention_resolutions.begin(), attention_resolutions.end(),
                                      resolutions.back()) != attention_resolutions.end();
        config.attention.push_back(attention_resolutions.empty() ? i == 1 : listed);
    }
    for (const auto channels : config.block_out_channels)
        require(channels % config.norm_num_groups == 0,
                "`norm_groups` {}: {} channels cannot be cut into so many; expected a divisor of "
                "`base_channels` {}",
                config.norm_num_groups, channels, base_channels);
    for (const auto wanted : attention_resolutions) {
        if (wanted == 0) continue;
        require(
            std::find(resolutions.begin(), resolutions.end(), wanted) != resolutions.end(),
            "`attention_resolutions` {}: no level has that resolution; with {}x{} images the levels have {}",
            wanted, height, width, fmt::join(resolutions, ", "));
    }
    if (heads > 1) {
        // The format stores one head size for the whole network, so every level with attention must agree.
        const std::int64_t middle = config.block_out_channels.back();
        require(middle % heads == 0, "`heads` {}: {} channels cannot be cut into {} heads", heads, middle,
                heads);
        config.attention_head_dim = middle / heads;
        for (std::size_t i = 0; i < config.attention.size(); ++i) {
            require(!config.attention[i] || config.block_out_channels[i] == middle,
                    "`heads` {}: attention would run at {} and {} channels, and the run's format keeps one "
                    "head size; choose attention resolutions whose levels have {} channels, or `heads` 1",
                    heads, config.block_out_channels[i], middle, middle);
        }
    }
    config.validate();
    return config;
}

SchedulerConfig TrainConfig::scheduler() const {
    SchedulerConfig config;
    config.schedule.timesteps = diffusion.timesteps;
    if (diffusion.beta_schedule == "cosine") config.schedule.kind = BetaSchedule::cosine;
    // What they become, as the run's scheduler_config.json has it: sampling reads the same numbers.
    const double scale = diffusion.rescale_betas ? rescaling(diffusion.timesteps) : 1;
    config.schedule.beta_start = scale * diffusion.beta_start;
    config.schedule.beta_end = scale * diffusion.beta_end;
    return config;
}

void TrainConfig::describe(const ModelConfig& other) {
    const nn::UNetConfig& unet = other.unet;
    TrainConfig described = *this;
    described.model.base_channels = unet.block_out_channels.front();
    described.model.channel_mults.clear();
    described.model.attention_resolutions.clear();
    for (std::size_t i = 0; i < unet.block_out_channels.size(); ++i) {
        described.model.channel_mults.push_back(unet.block_out_channels[i] / described.model.base_channels);
        if (unet.attention[i])
            described.model.attention_resolutions.push_back(std::max(unet.height, unet.width) >> i);
    }
    if (described.model.attention_resolutions.empty()) described.model.attention_resolutions = {0};
    described.model.layers_per_block = unet.layers_per_block;
    described.model.heads =
        unet.attention_head_dim ? unet.block_out_channels.back() / unet.attention_head_dim : 1;
    described.model.norm_groups = unet.norm_num_groups;
    described.model.dropout = unet.dropout;
    const NoiseScheduleOptions& schedule = other.scheduler.schedule;
    described.diffusion.timesteps = schedule.timesteps;
    described.diffusion.beta_schedule = schedule.kind == BetaSchedule::cosine ? "cosine" : "linear";
    const Diffusion defaults;
    const bool linear = schedule.kind == BetaSchedule::linear;
    described.diffusion.beta_start = linear ? schedule.beta_start : defaults.beta_start;
    described.diffusion.beta_end = linear ? schedule.beta_end : defaults.beta_end;
    described.diffusion.rescale_betas = false;
    try {
        described.validate();
        if (described.unet(unet.height, unet.width, unet.in_channels) == unet &&
            described.scheduler().schedule == schedule)
            *this = described;
    } catch (const Error&) {  // what the fields cannot say is not said
    }
}

}  // namespace ito::diffusion
