#include "diffusion/training/train_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/io/json_depth.h"
#include "core/precision.h"
#include "nn/lr_schedule.h"

namespace ito::diffusion {

using Json = nlohmann::ordered_json;

namespace {

/// Calls visit(name, field) for every field: the one list that writing and reading share.
template <class Config, class Visit>
void for_each_field(Config& c, Visit&& visit) {
    visit("data", c.data);
    visit("data_dir", c.data_dir);
    visit("image_size", c.image_size);
    visit("skip_broken", c.skip_broken);
    visit("flip", c.flip);
    visit("steps", c.steps);
    visit("minutes", c.minutes);
    visit("batch", c.batch);
    visit("grad_accum", c.grad_accum);
    visit("init_from", c.init_from);
    visit("weights", c.weights);
    visit("variant", c.variant);
    visit("base_channels", c.base_channels);
    visit("channel_mults", c.channel_mults);
    visit("layers_per_block", c.layers_per_block);
    visit("attention_resolutions", c.attention_resolutions);
    visit("heads", c.heads);
    visit("norm_groups", c.norm_groups);
    visit("dropout", c.dropout);
    visit("timesteps", c.timesteps);
    visit("beta_schedule", c.beta_schedule);
    visit("beta_start", c.beta_start);
    visit("beta_end", c.beta_end);
    visit("rescale_betas", c.rescale_betas);
    visit("lr", c.lr);
    visit("lr_schedule", c.lr_schedule);
    visit("warmup", c.warmup);
    visit("clip", c.clip);
    visit("weight_decay", c.weight_decay);
    visit("ema", c.ema);
    visit("seed", c.seed);
    visit("device", c.device);
    visit("threads", c.threads);
    visit("precision", c.precision);
    visit("weight_gradients", c.weight_gradients);
    visit("sample_every", c.sample_every);
    visit("save_every", c.save_every);
    visit("keep", c.keep);
    visit("tensorboard", c.tensorboard);
}

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

/// JSON holds UTF-8 only; a path may be any bytes.
void require_utf8(const char* option, const std::string& text) {
    try {
        static_cast<void>(Json(text).dump());
    } catch (const Json::exception&) {
        fail("--{}: the name is not UTF-8, as which the run's config.json keeps it", option);
    }
}

/// What makes a chain of any length end about as noisy as one of 1000 steps.
double rescaling(std::int64_t timesteps) {
    return 1000.0 / static_cast<double>(timesteps);
}

template <class T>
void require_range(const char* option, T value, T low, T high) {
    require(value >= low && value <= high, "--{} {}: expected {} to {}", option, value, low, high);
}

}  // namespace

std::string TrainConfig::to_json() const {
    Json json;
    for_each_field(*this, [&](const char* name, const auto& field) { json[name] = field; });
    return json.dump(2) + "\n";
}

TrainConfig TrainConfig::from_json(const std::string& text, const std::string& source) {
    require_shallow_json(text, source);
    const Json json = Json::parse(text, nullptr, false);
    require(!json.is_discarded() && json.is_object(), "{}: not a JSON object", source);
    TrainConfig config;
    std::size_t known = 0;
    for_each_field(config, [&](const char* name, auto& field) {
        const auto found = json.find(name);
        if (found == json.end()) return;
        ++known;
        require(read_field(*found, field), "{}: \"{}\" is {}, which is not of the expected kind", source,
                name, excerpt(found->dump(-1, ' ', false, Json::error_handler_t::replace)));
    });
    if (known != json.size()) {
        Json names = json;
        for_each_field(config, [&](const char* name, const auto&) { names.erase(name); });
        fail("{}: unknown field \"{}\"", source, excerpt(names.begin().key()));
    }
    try {
        config.validate();
    } catch (const Error& error) {
        fail("{}: {}", source, error.what());
    }
    return config;
}

void TrainConfig::validate() const {
    constexpr std::int64_t many = 1'000'000'000;
    require_utf8("data", data);
    require_utf8("data-dir", data_dir);
    require_utf8("device", device);
    require_utf8("init-from", init_from);
    require_utf8("variant", variant);
    require(weights == "ema" || weights == "raw", "--weights {}: expected ema or raw", excerpt(weights));
    require_range<std::int64_t>("image-size", image_size, 0, 4096);
    require_range<std::int64_t>("steps", steps, 0, most_steps);
    require_range("minutes", minutes, 0.0, 1e7);
    require_range<std::int64_t>("batch", batch, 1, 65536);
    require_range<std::int64_t>("grad-accum", grad_accum, 1, 65536);
    require_range<std::int64_t>("base-channels", base_channels, 4, 4096);
    require(!channel_mults.empty() && channel_mults.size() <= 8,
            "--channel-mults: {} levels; expected 1 to 8", channel_mults.size());
    for (const auto mult : channel_mults) require_range<std::int64_t>("channel-mults", mult, 1, 64);
    require_range<std::int64_t>("layers-per-block", layers_per_block, 1, 64);
    require(attention_resolutions.size() <= 8, "--attention-resolutions: {} of them; expected up to 8",
            attention_resolutions.size());
    for (const auto side : attention_resolutions)
        require_range<std::int64_t>("attention-resolutions", side, 0, 4096);
    require_range<std::int64_t>("heads", heads, 1, 1024);
    require_range<std::int64_t>("norm-groups", norm_groups, 0, 4096);
    require(dropout >= 0 && dropout < 1, "--dropout {}: expected at least 0 and less than 1", dropout);
    require_range<std::int64_t>("timesteps", timesteps, 2, 100000);
    require(beta_start > 0 && beta_start <= beta_end && beta_end < 1,
            "--beta-start {} --beta-end {}: expected 0 < start <= end < 1", beta_start, beta_end);
    require(beta_schedule == "linear" || beta_schedule == "cosine",
            "--beta-schedule {}: expected linear or cosine", excerpt(beta_schedule));
    const TrainConfig defaults;
    require(beta_schedule == "linear" ||
                (beta_start == defaults.beta_start && beta_end == defaults.beta_end && !rescale_betas),
            "--beta-schedule {}: follows from the timesteps alone; leave out --beta-start, --beta-end and "
            "--rescale-betas",
            beta_schedule);
    require(!rescale_betas || beta_end * rescaling(timesteps) < 1,
            "--rescale-betas: with --timesteps {} the last beta would be {:g}, expected less than 1; use at "
            "least {} "
            "timesteps",
            timesteps, beta_end * rescaling(timesteps), static_cast<std::int64_t>(1000 * beta_end) + 1);
    require(lr > 0 && lr <= 10, "--lr {}: expected more than 0, at most 10", lr);
    require(lr_schedule == "constant" || lr_schedule == "linear" || lr_schedule == "cosine",
            "--lr-schedule {}: expected constant, linear or cosine", excerpt(lr_schedule));
    require_range<std::int64_t>("warmup", warmup, 0, many);
    require(clip >= 0 && std::isfinite(clip), "--clip {}: expected 0 (off) or a positive norm", clip);
    require(weight_decay >= 0 && weight_decay <= 10, "--weight-decay {}: expected 0 to 10", weight_decay);
    require(ema >= 0 && ema < 1, "--ema {}: expected at least 0 and less than 1", ema);
    require_range("threads", threads, 0, 1024);
    check_precision(precision);
    require(weight_gradients == "float32" || weight_gradients == "bfloat16",
            "--weight-gradients {}: expected float32 or bfloat16", excerpt(weight_gradients));
    require_range<std::int64_t>("sample-every", sample_every, 0, many);
    require_range<std::int64_t>("save-every", save_every, 1, many);
    require_range<std::int64_t>("keep", keep, 1, 1000);
}

nn::UNetConfig TrainConfig::unet(std::int64_t height, std::int64_t width, std::int64_t channels) const {
    nn::UNetConfig config;
    config.in_channels = config.out_channels = channels;
    config.height = height;
    config.width = width;
    config.layers_per_block = layers_per_block;
    config.dropout = dropout;
    config.norm_num_groups = norm_groups ? norm_groups : nn::default_norm_groups(base_channels);
    config.block_out_channels.clear();
    config.attention.clear();
    const std::int64_t multiple = std::int64_t{1} << (channel_mults.size() - 1);
    require(
        height % multiple == 0 && width % multiple == 0,
        "--channel-mults {}: {} levels need sides that are multiples of {}, the images are {}x{}; give fewer "
        "levels or --image-size {}",
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
                "--norm-groups {}: {} channels cannot be cut into so many; expected a divisor of "
                "--base-channels {}",
                config.norm_num_groups, channels, base_channels);
    for (const auto wanted : attention_resolutions) {
        if (wanted == 0) continue;
        require(
            std::find(resolutions.begin(), resolutions.end(), wanted) != resolutions.end(),
            "--attention-resolutions {}: no level has that resolution; with {}x{} images the levels have {}",
            wanted, height, width, fmt::join(resolutions, ", "));
    }
    if (heads > 1) {
        // The format stores one head size for the whole network, so every level with attention must agree.
        const std::int64_t middle = config.block_out_channels.back();
        require(middle % heads == 0, "--heads {}: {} channels cannot be cut into {} heads", heads, middle,
                heads);
        config.attention_head_dim = middle / heads;
        for (std::size_t i = 0; i < config.attention.size(); ++i) {
            require(!config.attention[i] || config.block_out_channels[i] == middle,
                    "--heads {}: attention would run at {} and {} channels, and the run's format keeps one "
                    "head size; "
                    "choose attention resolutions whose levels have {} channels, or --heads 1",
                    heads, config.block_out_channels[i], middle, middle);
        }
    }
    config.validate();
    return config;
}

SchedulerConfig TrainConfig::scheduler() const {
    SchedulerConfig config;
    config.schedule.timesteps = timesteps;
    if (beta_schedule == "cosine") config.schedule.kind = BetaSchedule::cosine;
    // What they become, as the run's scheduler_config.json has it: sampling reads the same numbers.
    const double scale = rescale_betas ? rescaling(timesteps) : 1;
    config.schedule.beta_start = scale * beta_start;
    config.schedule.beta_end = scale * beta_end;
    return config;
}

void TrainConfig::describe(const ModelConfig& model) {
    const nn::UNetConfig& unet = model.unet;
    TrainConfig described = *this;
    described.base_channels = unet.block_out_channels.front();
    described.channel_mults.clear();
    described.attention_resolutions.clear();
    for (std::size_t i = 0; i < unet.block_out_channels.size(); ++i) {
        described.channel_mults.push_back(unet.block_out_channels[i] / described.base_channels);
        if (unet.attention[i])
            described.attention_resolutions.push_back(std::max(unet.height, unet.width) >> i);
    }
    if (described.attention_resolutions.empty()) described.attention_resolutions = {0};
    described.layers_per_block = unet.layers_per_block;
    described.heads = unet.attention_head_dim ? unet.block_out_channels.back() / unet.attention_head_dim : 1;
    described.norm_groups = unet.norm_num_groups;
    described.dropout = unet.dropout;
    const NoiseScheduleOptions& schedule = model.scheduler.schedule;
    described.timesteps = schedule.timesteps;
    described.beta_schedule = schedule.kind == BetaSchedule::cosine ? "cosine" : "linear";
    const TrainConfig defaults;
    const bool linear = schedule.kind == BetaSchedule::linear;
    described.beta_start = linear ? schedule.beta_start : defaults.beta_start;
    described.beta_end = linear ? schedule.beta_end : defaults.beta_end;
    described.rescale_betas = false;
    try {
        described.validate();
        if (described.unet(unet.height, unet.width, unet.in_channels) == unet &&
            described.scheduler().schedule == schedule)
            *this = described;
    } catch (const Error&) {  // what the fields cannot say is not said
    }
}

}  // namespace ito::diffusion
