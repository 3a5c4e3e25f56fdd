#include "apps/config_file.h"

#include <fcntl.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <vector>

#include "apps/arguments.h"
#include "core/error.h"

namespace ito::apps {
namespace {

std::string where(const std::string& path, unsigned line) {
    return fmt::format("{}:{}", path, line);
}

/// The whole file; it may be a pipe: --config <(script that prints options).
std::string read(const std::string& path) {
    constexpr std::size_t most = std::size_t{1} << 20, longest_line = 10'000;
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require(file >= 0, "--config {}: cannot be opened: {}", path, std::strerror(errno));
    std::string text;
    std::array<char, 4096> piece{};
    ssize_t got = 0;
    while (text.size() <= most && (got = ::read(file, piece.data(), piece.size())) > 0)
        text.append(piece.data(), static_cast<std::size_t>(got));
    const int error = errno;
    ::close(file);
    require(got >= 0, "--config {}: cannot be read: {}", path, std::strerror(error));
    require(text.size() <= most, "--config {}: is larger than {} MiB; expected a TOML file of options", path,
            most >> 20);
    // A key of thousands of parts (a.a.a. ...) would be so deep a table that its recursion overflows the stack.
    unsigned line = 1;
    for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end + 1, ++line) {
        end = std::min(text.find('\n', begin), text.size());
        require(end - begin <= longest_line, "{}: a line of {} bytes; expected at most {}", where(path, line),
                end - begin, longest_line);
    }
    return text;
}

toml::table parse(const std::string& path) {
    require(!std::filesystem::is_directory(path), "--config {}: is a folder; expected a TOML file", path);
    const std::string text = read(path);
    try {
        return toml::parse(text, path);
    } catch (const toml::parse_error& error) {
        std::string reason(error.description());
        std::replace(reason.begin(), reason.end(), '\n', ' ');
        fail("{}: not TOML: {}", where(path, error.source().begin.line), reason.substr(0, 150));
    }
}

/// What an option's value in the file must be.
struct Kind {
    explicit Kind(const CLI::Option& option)
        : flag(option.get_items_expected_max() == 0 || option.get_expected_min() == 0),
          list(!flag && option.get_items_expected_max() > 1),
          whole(option.get_type_name().starts_with("INT") || option.get_type_name().starts_with("UINT")),
          number(whole || option.get_type_name().starts_with("FLOAT")),
          wide(option.get_type_name().starts_with("UINT")) {}

    std::string expected() const {
        if (flag) return "true or false";
        const std::string one = whole ? "whole number" : number ? "number" : "string in quotes";
        return list ? fmt::format("one {}, or several as [a, b]", one) : fmt::format("a {}", one);
    }

    /// The value as it would stand on the command line; false if it is of another kind.
    bool to_argument(const toml::node& value, std::string& argument) const {
        if (flag) {
            if (!value.is_boolean()) return false;
            argument = value.as_boolean()->get() ? "true" : "false";
        } else if (value.is_integer() && number) {
            argument = std::to_string(value.as_integer()->get());
        } else if (value.is_floating_point() && number && !whole) {
            argument = fmt::format("{}", value.as_floating_point()->get());
        } else if (value.is_string() && (!number || wide)) {
            // TOML's numbers end at 2^63 - 1, a seed at 2^64 - 1: such a one is written as a string.
            argument = value.as_string()->get();
            if (argument.find('\0') != std::string::npos) return false;  // the system would end a name there
            return !number || argument.find_first_not_of("0123456789") == std::string::npos;
        } else {
            return false;
        }
        return true;
    }

    bool flag, list, whole, number, wide;
};

std::vector<std::string> arguments_of(const std::string& place, std::string_view key, const toml::node& value,
                                      const CLI::Option& option) {
    const Kind kind(option);
    std::vector<std::string> arguments;
    const auto add = [&](const toml::node& node) { return kind.to_argument(node, arguments.emplace_back()); };
    const toml::array* array = value.as_array();
    const bool fits = array != nullptr
                          ? kind.list && !array->empty() && std::all_of(array->begin(), array->end(), add)
                          : add(value);
    if (!fits) {
        std::ostringstream found;
        found << toml::node_view<const toml::node>(value);
        fail("{}: {} is {}; expected {}", place, key, excerpt(found.str(), 60), kind.expected());
    }
    return arguments;
}

CLI::Option* find_option(CLI::App& app, const std::string& key) {
    if (key.empty() || key.front() == '-') return nullptr;
    CLI::Option* option = app.get_option_no_throw("--" + key);
    return option != nullptr && option->get_configurable() ? option : nullptr;
}

[[noreturn]] void refuse_key(CLI::App& app, const std::string& place, const std::string& key, bool section) {
    if (section) fail("{}: [{}] is a table; expected plain lines `option = value`", place, excerpt(key, 60));
    std::string dashed = key;
    std::replace(dashed.begin(), dashed.end(), '_', '-');
    fail("{}: unknown key \"{}\"; expected an option of ito {}{}", place, excerpt(key, 60), app.get_name(),
         find_option(app, dashed) != nullptr ? fmt::format(", perhaps {}", dashed) : std::string());
}

}  // namespace

void ConfigFile::add_option(CLI::App& app) {
    app.add_option("--config", path_, "TOML file of these options; the command line wins over it")
        ->configurable(false);
}

void ConfigFile::apply(CLI::App& app) {
    if (app.count("--config") == 0) return;
    const toml::table table = parse(path_);
    for (const auto& [key, value] : table) {
        const std::string place = where(path_, key.source().begin.line), name(key.str());
        CLI::Option* option = find_option(app, name);
        const bool section = value.is_table() || value.is_array_of_tables();
        if (option == nullptr || section) refuse_key(app, place, name, section);
        // Checked even if the command line wins, so that a mistake in the file shows at once.
        const auto arguments = arguments_of(place, name, value, *option);
        if (option->count() > 0) continue;
        lines_[name] = key.source().begin.line;
        try {
            for (const std::string& argument : arguments) option->add_result(argument);
            option->run_callback();
        } catch (const CLI::ParseError& error) {
            fail("{}: {}", place, describe(error));
        }
    }
}

int ConfigFile::run(CLI::App& app, const std::function<int()>& command) {
    apply(app);
    try {
        return command();
    } catch (const Error& error) {
        throw Error(located(in_options(error.what())));
    }
}

std::string ConfigFile::located(const std::string& error) const {
    // "--batch 0: expected ..."; Device::parse says "device 'gpu': expected ...".
    std::string_view text = error;
    const bool option = text.starts_with("--");
    if (option) text.remove_prefix(2);
    const std::string name(text.substr(0, option ? text.find_first_of(" :") : text.find(" '")));
    const auto line = lines_.find(name);
    return line == lines_.end() ? error : fmt::format("{}: {}", where(path_, line->second), error);
}

}  // namespace ito::apps
