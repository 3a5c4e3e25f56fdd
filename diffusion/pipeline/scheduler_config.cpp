#include "diffusion/pipeline/scheduler_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/file_kind.h"
#include "core/io/input_file.h"
#include "core/io/json_depth.h"
#include "nn/config_fields.h"

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
                                                  {BetaSchedule::scaled_linear, "scaled_linear"},
                                                  {BetaSchedule::cosine, "squaredcos_cap_v2"},
                                                  {BetaSchedule::sigmoid, "sigmoid"}};
// fixed_small_log computes the square root of the same variance through its logarithm. (fixed_large_log takes the square root
// of a negative logarithm: NaN in diffusers.)
constexpr Named<VarianceKind> variance_types[] = {{VarianceKind::posterior, "fixed_small"},
                                                  {VarianceKind::beta, "fixed_large"},
                                                  {VarianceKind::posterior, "fixed_small_log"}};
constexpr Named<TimestepSpacing> spacings[] = {{TimestepSpacing::leading, "leading"},
                                               {TimestepSpacing::linspace, "linspace"},
                                               {TimestepSpacing::trailing, "trailing"}};

/// Fields of schedulers that can be converted to DDPMScheduler: diffusers keeps them in the file, and DDPMScheduler does not
/// read them. With tensor_format diffusers 0.3 chose between torch and numpy.
constexpr const char* of_other_schedulers[] = {"algorithm_type",
                                               "disable_corrector",
                                               "euler_at_final",
                                               "final_sigmas_type",
                                               "flow_shift",
                                               "interpolation_type",
                                               "lambda_min_clipped",
                                               "lower_order_final",
                                               "noise_sampler_seed",
                                               "predict_x0",
                                               "rho",
                                               "set_alpha_to_one",
                                               "sigma_max",
                                               "sigma_min",
                                               "sigma_schedule",
                                               "skip_prk_steps",
                                               "solver_order",
                                               "solver_p",
                                               "solver_type",
                                               "tensor_format",
                                               "time_shift_type",
                                               "timestep_type",
                                               "timestep_values",
                                               "use_beta_sigmas",
                                               "use_dynamic_shifting",
                                               "use_exponential_sigmas",
                                               "use_flow_sigmas",
                                               "use_karras_sigmas",
                                               "use_lu_lambdas"};
/// The classes of those schedulers, without the suffix.
constexpr std::string_view other_schedulers[] = {
    "DDIM",          "DEISMultistep",       "DPMSolverMultistep",
    "DPMSolverSDE",  "DPMSolverSinglestep", "EulerAncestralDiscrete",
    "EulerDiscrete", "HeunDiscrete",        "KDPM2AncestralDiscrete",
    "KDPM2Discrete", "LMSDiscrete",         "PNDM",
    "UniPCMultistep"};

template <class Enum, std::size_t count>
const char* name_in(const Named<Enum> (&names)[count], Enum value) {
    for (const auto& named : names)
        if (named.value == value) return named.name;
    fail("scheduler config: unknown value {}", static_cast<int>(value));
}

/// Reads the fields of one file, each with a default. Errors name file, field and value.
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

    /// A field of which only one value is supported. null counts as false, as in Python.
    void only(const char* key, const Json& supported, const std::string& remedy = {}) const {
        const Json* value = find(key);
        require(value == nullptr || *value == supported || (value->is_null() && supported == false),
                "{}: {} is {}, only {} is supported{}", file_, key, value ? shown(*value) : "",
                shown(supported), remedy);
    }

    /// Empty if there is none.
    std::vector<double> numbers(const char* key) const {
        const Json* value = find(key);
        if (value == nullptr || value->is_null()) return {};
        require(value->is_array() && !value->empty() &&
                    std::all_of(value->begin(), value->end(), [](const Json& x) { return x.is_number(); }),
                "{}: {} is {}, expected null or a list of numbers", file_, key, shown(*value));
        return value->get<std::vector<double>>();
    }

    bool is_positive(const char* key) const {
        const Json* value = find(key);
        return value && value->is_number() && value->get<double>() > 0;
    }

    void absent(const char* key, const char* why) const {
        const Json* value = find(key);
        require(value == nullptr, "{}: has {}: {}, which ito does not sample", file_, key, why);
    }

    /// A field that changes nothing here.
    void unused(const char* key) const { known_.add(key); }

    std::string text(const char* key) const {
        const Json* value = find(key);
        return value && value->is_string() ? value->get<std::string>() : std::string();
    }

    std::string note() const {
        std::vector<std::string> names;
        for (const auto& [name, value] : object_.items()) names.push_back(name);
        return known_.note(names, file_);
    }

  private:
    const Json* find(const char* key) const {
        known_.add(key);
        const auto found = object_.find(key);
        return found == object_.end() ? nullptr : &*found;
    }

    static std::string shown(const Json& value) {
        return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace));
    }

    const Json& object_;
    const std::string& file_;
    mutable nn::KnownFields known_;
};

/// How to convert another scheduler's file to one of DDPMScheduler.
std::string remedy_for_class(const std::string& name, const std::filesystem::path& file) {
    constexpr std::string_view suffix = "Scheduler";
    const bool convertible = name.ends_with(suffix) &&
                             std::ranges::count(other_schedulers, std::string_view(name).substr(
                                                                      0, name.size() - suffix.size())) > 0;
    if (!convertible) return {};
    const std::string folder = Json(file.has_parent_path() ? file.parent_path().string() : ".")
                                   .dump(-1, ' ', false, Json::error_handler_t::replace);
    return fmt::format(
        "; the network can be sampled with that too, after this in Python: from diffusers import "
        "DDPMScheduler; DDPMScheduler.from_pretrained({0}).save_pretrained({0})",
        folder);
}

}  // namespace

const char* name_of(TimestepSpacing spacing) {
    return name_in(spacings, spacing);
}

TimestepSpacing parse_timestep_spacing(const std::string& text, const std::string& what) {
    for (const auto& named : spacings)
        if (text == named.name) return named.value;
    fail("{} {}: expected leading, linspace or trailing", what, text);
}

ReverseProcess preview_process(SchedulerConfig config, std::int64_t steps) {
    const std::int64_t stride = config.schedule.timesteps / steps;
    if (config.timestep_spacing == TimestepSpacing::leading &&
        (steps - 1) * stride + config.steps_offset >= config.schedule.timesteps)
        config.timestep_spacing = TimestepSpacing::linspace;
    return reverse_process(config, steps);
}

ReverseProcess reverse_process(const SchedulerConfig& config, std::int64_t steps) {
    const NoiseSchedule schedule(config.schedule);
    return {schedule,
            spaced_timesteps(schedule.timesteps(), steps, config.timestep_spacing, config.steps_offset),
            config.variance};
}

SchedulerConfig parse_scheduler_config(std::string_view text, const std::string& file,
                                       std::vector<std::string>* notes) {
    require_json_kind(text, file);
    require_shallow_json(text, file);
    Json object;
    try {
        object = Json::parse(quote_python_numbers(text));
    } catch (const Json::parse_error& error) {
        fail("{}: is not valid JSON (cut short? download or copy it again)", file);
    } catch (const Json::exception& error) {
        fail("{}: is not valid JSON ({})", file, error.what());
    }
    require(object.is_object(), "{}: is {}, expected a JSON object", file, object.type_name());

    const Fields fields(object, file);
    fields.only("_class_name", "DDPMScheduler", remedy_for_class(fields.text("_class_name"), file));
    fields.only("_use_default_values", Json::array());  // names fields that diffusers then skips
    fields.only("prediction_type", "epsilon");
    fields.only("predict_epsilon", true);  // before diffusers 0.12; false: the network predicts x_0
    fields.only("rescale_betas_zero_snr", false);
    fields.only("thresholding", false);
    for (const char* key : {"dynamic_thresholding_ratio", "sample_max_value"}) fields.unused(key);
    for (const char* key : of_other_schedulers) fields.unused(key);
    // Only EDM's schedulers have it; their networks scale input and output in another way (Karras et al. 2022, eq. 7).
    fields.absent("sigma_data", "it is of a network that was trained with EDM's preconditioning");

    SchedulerConfig config;
    config.schedule.timesteps = fields.integer("num_train_timesteps", 1000);
    require(config.schedule.timesteps >= 2 && config.schedule.timesteps <= NoiseSchedule::most_timesteps,
            "{}: num_train_timesteps is {}, expected from 2 to {}", file, config.schedule.timesteps,
            NoiseSchedule::most_timesteps);
    config.schedule.betas = fields.numbers("trained_betas");
    // As in diffusers, a list replaces the schedule, and the cosine has no range.
    for (const char* key : {"beta_schedule", "beta_start", "beta_end"}) fields.unused(key);
    config.schedule.kind = !config.schedule.betas.empty()
                               ? BetaSchedule::listed
                               : fields.choice("beta_schedule", beta_schedules, BetaSchedule::linear);
    if (config.schedule.kind != BetaSchedule::listed && config.schedule.kind != BetaSchedule::cosine) {
        config.schedule.beta_start = fields.number("beta_start", 1e-4);
        config.schedule.beta_end = fields.number("beta_end", 0.02);
    }
    config.variance = fields.choice("variance_type", variance_types, VarianceKind::posterior);
    config.clip_sample = fields.boolean("clip_sample", true);
    // Without clipping the range is not used, and may be anything.
    if (config.clip_sample || fields.is_positive("clip_sample_range"))
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
        fail("{}: {}{}", file, config.schedule.betas.empty() ? "" : "trained_betas: ", error.what());
    }
    if (const std::string note = fields.note(); notes && !note.empty()) notes->push_back(note);
    return config;
}

SchedulerConfig read_scheduler_config(const std::filesystem::path& path, std::vector<std::string>* notes) {
    const FileContent file(path);
    SchedulerConfig config = parse_scheduler_config(file.text(), path.string(), notes);
    const auto has = [&](std::string_view field) {
        return file.text().find(field) != std::string_view::npos;
    };
    require(has("\"_class_name\"") || has("\"num_train_timesteps\""),
            "{}: has neither _class_name nor num_train_timesteps, so it is no scheduler's configuration; "
            "download or copy it again",
            path.string());
    return config;
}

std::string format_scheduler_config(const SchedulerConfig& config) {
    const NoiseSchedule checked(config.schedule);
    const bool rescaled = config.schedule.rescale, listed = config.schedule.kind == BetaSchedule::listed;
    const Json object = {
        {"_class_name", "DDPMScheduler"},
        {"beta_end", rescaled ? checked.betas().back() : config.schedule.beta_end},
        {"beta_schedule",
         name_in(beta_schedules, listed ? BetaSchedule::linear : config.schedule.kind)},  // not read then
        {"beta_start", rescaled ? checked.betas().front() : config.schedule.beta_start},
        {"clip_sample", config.clip_sample},
        {"clip_sample_range", config.clip_sample_range},
        {"num_train_timesteps", config.schedule.timesteps},
        {"prediction_type", "epsilon"},
        {"steps_offset", config.steps_offset},
        {"timestep_spacing", name_in(spacings, config.timestep_spacing)},
        {"trained_betas", listed ? Json(config.schedule.betas) : Json(nullptr)},
        {"variance_type", name_in(variance_types, config.variance)},
    };
    return object.dump(2) + "\n";
}

void write_scheduler_config(const std::filesystem::path& path, const SchedulerConfig& config) {
    write_file_atomically(path, format_scheduler_config(config));
}

}  // namespace ito::diffusion
