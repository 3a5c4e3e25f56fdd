#include "diffusion/scheduler_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/input_file.h"
#include "core/json_depth.h"

namespace ito::diffusion {
namespace {

using Json = nlohmann::json;

/// An enum value beside its name in the file.
template <class Enum>
struct Named {
    Enum value;
    const char* name;
};

constexpr Named<BetaSchedule> beta_schedules[] = {{BetaSchedule::linear, "linear"},
                                                  {BetaSchedule::cosine, "squaredcos_cap_v2"}};
constexpr Named<VarianceKind> variance_types[] = {{VarianceKind::posterior, "fixed_small"},
                                                  {VarianceKind::beta, "fixed_large"}};
constexpr Named<TimestepSpacing> spacings[] = {{TimestepSpacing::leading, "leading"},
                                               {TimestepSpacing::linspace, "linspace"},
                                               {TimestepSpacing::trailing, "trailing"}};

template <class Enum, std::size_t count>
const char* name_in(const Named<Enum> (&names)[count], Enum value) {
    for (const auto& named : names)
        if (named.value == value) return named.name;
    fail("scheduler config: unknown value {}", static_cast<int>(value));
}

/// The fields of one file, read with a default each, with errors that name file, field and value.
class Fields {
  public:
    Fields(const Json& object, const std::string& file) : object_(object), file_(file) {}

    double number(const char* key, double fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        require(value->is_number(), "{}: {} is {}, expected a number", file_, key, shown(*value));
        return value->get<double>();
    }

    std::int64_t integer(const char* key, std::int64_t fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        // Compared as a double: a number beyond int64 must be refused, not wrapped.
        require(value->is_number_integer() && std::abs(value->get<double>()) < 1e15,
                "{}: {} is {}, expected an integer", file_, key, shown(*value));
        return value->get<std::int64_t>();
    }

    bool boolean(const char* key, bool fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        require(value->is_boolean(), "{}: {} is {}, expected true or false", file_, key, shown(*value));
        return value->get<bool>();
    }

    template <class Enum, std::size_t count>
    Enum choice(const char* key, const Named<Enum> (&names)[count], Enum fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        std::string expected;
        for (const auto& named : names) {
            if (value->is_string() && value->get_ref<const std::string&>() == named.name) return named.value;
            expected += fmt::format("{}\"{}\"", expected.empty() ? "" : " or ", named.name);
        }
        fail("{}: {} is {}, expected {}", file_, key, shown(*value), expected);
    }

    /// A field with which only one value is supported; null and absence count as it.
    void only(const char* key, const Json& supported) const {
        const Json* value = find(key);
        require(value == nullptr || *value == supported, "{}: {} is {}, only {} is supported", file_, key,
                value ? shown(*value) : "", shown(supported));
    }

  private:
    const Json* find(const char* key) const {
        const auto found = object_.find(key);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }

    static std::string shown(const Json& value) {
        return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace));
    }

    const Json& object_;
    const std::string& file_;
};

}  // namespace

SchedulerConfig parse_scheduler_config(std::string_view text, const std::string& file) {
    require_shallow_json(text, file);
    Json object;
    try {
        object = Json::parse(text.begin(), text.end());
    } catch (const Json::parse_error& error) {
        fail("{}: is not valid JSON (at byte {})", file, error.byte);
    } catch (const Json::exception& error) {
        fail("{}: is not valid JSON ({})", file, error.what());
    }
    require(object.is_object(), "{}: is {}, expected a JSON object", file, object.type_name());

    const Fields fields(object, file);
    fields.only("_class_name", "DDPMScheduler");
    fields.only("prediction_type", "epsilon");
    fields.only("trained_betas", nullptr);
    fields.only("thresholding", false);
    fields.only("rescale_betas_zero_snr", false);

    SchedulerConfig config;
    config.schedule.timesteps = fields.integer("num_train_timesteps", 1000);
    config.schedule.kind = fields.choice("beta_schedule", beta_schedules, BetaSchedule::linear);
    if (config.schedule.kind == BetaSchedule::linear) {
        config.schedule.beta_start = fields.number("beta_start", 1e-4);
        config.schedule.beta_end = fields.number("beta_end", 0.02);
    }
    config.variance = fields.choice("variance_type", variance_types, VarianceKind::posterior);
    config.clip_sample = fields.boolean("clip_sample", true);
    config.clip_sample_range = fields.number("clip_sample_range", 1);
    config.timestep_spacing = fields.choice("timestep_spacing", spacings, TimestepSpacing::leading);
    config.steps_offset = fields.integer("steps_offset", 0);
    require(config.clip_sample_range > 0 && std::isfinite(config.clip_sample_range),
            "{}: clip_sample_range is {}, expected a positive number", file, config.clip_sample_range);
    require(config.steps_offset >= 0, "{}: steps_offset is {}, expected at least 0", file,
            config.steps_offset);
    try {
        NoiseSchedule checked(config.schedule);
    } catch (const Error& error) {
        fail("{}: {}", file, error.what());
    }
    return config;
}

SchedulerConfig read_scheduler_config(const std::filesystem::path& path) {
    const FileContent file(path);
    return parse_scheduler_config(file.text(), path.string());
}

std::string format_scheduler_config(const SchedulerConfig& config) {
    const NoiseSchedule checked(config.schedule);
    const bool linear = config.schedule.kind == BetaSchedule::linear;
    const Json object = {
        {"_class_name", "DDPMScheduler"},
        {"beta_end", linear && config.schedule.rescale ? checked.betas().back() : config.schedule.beta_end},
        {"beta_schedule", name_in(beta_schedules, config.schedule.kind)},
        {"beta_start",
         linear && config.schedule.rescale ? checked.betas().front() : config.schedule.beta_start},
        {"clip_sample", config.clip_sample},
        {"clip_sample_range", config.clip_sample_range},
        {"num_train_timesteps", config.schedule.timesteps},
        {"prediction_type", "epsilon"},
        {"steps_offset", config.steps_offset},
        {"timestep_spacing", name_in(spacings, config.timestep_spacing)},
        {"trained_betas", nullptr},
        {"variance_type", name_in(variance_types, config.variance)},
    };
    return object.dump(2) + "\n";
}

void write_scheduler_config(const std::filesystem::path& path, const SchedulerConfig& config) {
    write_file_atomically(path, format_scheduler_config(config));
}

}  // namespace ito::diffusion
