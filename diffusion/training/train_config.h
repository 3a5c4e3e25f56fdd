#pragma once
// Everything that decides what a training run does, as resolved from the command line and kept in the run.

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "diffusion/pipeline/scheduler_config.h"
#include "nn/unet.h"

namespace ito::diffusion {

/// A network and the noise schedule that it is trained with.
struct ModelConfig {
    nn::UNetConfig unet;
    SchedulerConfig scheduler;
};

/// The options of ito train, in groups; a program fills in what differs from the defaults. train_options.def lists them.
struct TrainConfig {
    using Integers = std::vector<std::int64_t>;
    static constexpr std::int64_t most_steps = 1'000'000'000;

#define ITO_FIELD(type, name, value, ...) type name = value;
    struct Data {
#define ITO_DATA ITO_FIELD
#include "diffusion/training/train_options.def"
    } data;
    struct Model {
#define ITO_MODEL ITO_FIELD
#include "diffusion/training/train_options.def"
    } model;
    struct Diffusion {
#define ITO_DIFFUSION ITO_FIELD
#include "diffusion/training/train_options.def"
    } diffusion;
    struct Optimizer {
#define ITO_OPTIMIZER ITO_FIELD
#include "diffusion/training/train_options.def"
    } optimizer;
    struct Run {
#define ITO_RUN ITO_FIELD
#include "diffusion/training/train_options.def"
    } run;
#undef ITO_FIELD

    /// Throws Error naming the option, what was found and what is expected.
    void validate() const;
    std::string to_json() const;
    /// `source` names the text in errors. Unknown fields, fields of the wrong kind, numbers that do not fit and
    /// what validate() refuses are refused.
    static TrainConfig from_json(const std::string& text, const std::string& source);

    /// The network for images of this size.
    nn::UNetConfig unet(std::int64_t height, std::int64_t width, std::int64_t channels) const;
    SchedulerConfig scheduler() const;
    /// Sets the fields of network and schedule so that they describe `other`, or leaves them all where they cannot.
    void describe(const ModelConfig& other);
};

/// What is known of an option besides its type and default. Names of other options stand between backquotes in `help`.
struct TrainOption {
    struct Range {
        double low = std::numeric_limits<double>::lowest(), high = std::numeric_limits<double>::max();
        const char* text = "";  ///< for errors; empty: "low to high"
    };
    /// What a text may be besides one of its `words`. Without words it may be anything.
    enum class Others { none, text, folders };

    const char* group;  ///< of TrainConfig: "data", "model", ...
    const char* name;   ///< of the field, and the key in config.json
    const char* help;
    Range range = {};                          ///< of a number, and of each number of a list
    std::size_t least = 0, most = 8;           ///< numbers of a list
    std::vector<std::string_view> words = {};  ///< of a text, offered by completion
    Others others = Others::none;
    bool resumable = false;  ///< a resumed training may change it
};

/// Calls visit(option, fields...) for each option in the order of config.json, with its field of each of the configurations.
template <class Visit, class... Configs>
void for_each_option(Visit&& visit, Configs&&... configs) {
    using Others = TrainOption::Others;
    constexpr auto most_steps = static_cast<double>(TrainConfig::most_steps);
    constexpr double largest = std::numeric_limits<double>::max();
    constexpr double above_zero = std::numeric_limits<double>::denorm_min();
    constexpr double below_one = 1 - std::numeric_limits<double>::epsilon() / 2;
#define ITO_VISIT(group_, name_, help_, ...) \
    visit(TrainOption{.group = #group_, .name = #name_, .help = help_, __VA_ARGS__}, configs.group_.name_...);
#define ITO_DATA(type, name, value, ...) ITO_VISIT(data, name, __VA_ARGS__)
#define ITO_MODEL(type, name, value, ...) ITO_VISIT(model, name, __VA_ARGS__)
#define ITO_DIFFUSION(type, name, value, ...) ITO_VISIT(diffusion, name, __VA_ARGS__)
#define ITO_OPTIMIZER(type, name, value, ...) ITO_VISIT(optimizer, name, __VA_ARGS__)
#define ITO_RUN(type, name, value, ...) ITO_VISIT(run, name, __VA_ARGS__)
#include "diffusion/training/train_options.def"
#undef ITO_VISIT
}

}  // namespace ito::diffusion
