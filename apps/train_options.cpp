#include "apps/train_options.h"

#include <fmt/ranges.h>

#include <cctype>
#include <limits>
#include <nlohmann/json.hpp>

#include "apps/arguments.h"

namespace ito::apps {

using namespace diffusion;

namespace {

template <class T>
CLI::Option* add(CLI::App& app, const TrainOption& option, T& value) {
    const std::string name = option_of(option.name), help = in_options(option.help);
    if constexpr (std::is_same_v<T, bool>) {
        return app.add_flag(name, value, help);
    } else if constexpr (std::is_same_v<T, TrainConfig::Integers>) {
        const auto values = fmt::format("{}", fmt::join(value, ","));
        return app.add_option(name, value, help)->delimiter(',')->default_str(values);
    } else {
        CLI::Option* added = app.add_option(name, value, help)->capture_default_str();
        return std::is_same_v<T, std::uint64_t> ? added->check(check_seed) : added;
    }
}

}  // namespace

void add_train_options(CLI::App& app, TrainConfig& config) {
    for_each_option(
        [&](const TrainOption& option, auto& value) {
            std::string section = option.group;
            section.front() = static_cast<char>(std::toupper(section.front()));
            add(app, option, value)->group(section);
        },
        config);
}

std::optional<TrainOption> find_train_option(std::string_view option) {
    std::optional<TrainOption> found;
    for_each_option([&](const TrainOption& known) {
        if (option_of(known.name) == option) found = known;
    });
    return found;
}

template <class T>
CLI::Option* add_train_option(CLI::App& app, std::string_view option, T& value) {
    return add(app, find_train_option(option).value(), value);
}
template CLI::Option* add_train_option(CLI::App&, std::string_view, std::string&);
template CLI::Option* add_train_option(CLI::App&, std::string_view, int&);
template CLI::Option* add_train_option(CLI::App&, std::string_view, bool&);

std::string to_toml(const TrainConfig& config) {
    std::string text;
    for_each_option(
        [&](const TrainOption& option, const auto& field) {
            const nlohmann::json json = field;
            if (json == "" || json == nlohmann::json::array()) return;
            if (option.name == std::string_view("steps") && json == 0) return;
            std::string value = json.dump();
            // JSON's string is TOML's but for the one control character that JSON does not escape. The TOML library's own is
            // not used: text of several lines it writes between ''' without a look whether that is in it.
            for (auto at = value.find('\x7f'); at != std::string::npos; at = value.find('\x7f'))
                value.replace(at, 1, "\\u007f");
            // TOML's numbers end at 2^63 - 1, a seed at 2^64 - 1.
            if (json.is_number_unsigned() &&
                json.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
                value = fmt::format("\"{}\"", value);
            text += fmt::format("{} = {}\n", option_of(option.name).substr(2), value);
        },
        config);
    return text;
}

}  // namespace ito::apps
