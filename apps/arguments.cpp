#include "apps/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <iterator>

#include "apps/terminal.h"
#include "apps/train_options.h"
#include "core/error.h"

namespace ito::apps {
namespace {

template <class Number>
std::errc parse(std::string_view text, Number& number) {
    if (text.starts_with('+')) text.remove_prefix(1);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end != text.data() + text.size()) return std::errc::invalid_argument;
    return error;
}

std::string check_whole(const std::string& text) {
    const auto digits = text.find_first_not_of("+-");
    const bool octal = digits != std::string::npos && text[digits] == '0' && digits + 1 < text.size();
    std::int64_t value = 0;
    std::uint64_t large = 0;
    const auto error = parse(text, value);
    if (text.empty()) return "the value is empty; expected a whole number";
    if (error == std::errc::result_out_of_range && parse(text, large) != std::errc())
        return fmt::format("{} is too large", excerpt(text, 60));
    if (error == std::errc::invalid_argument || octal)
        return fmt::format("'{}' is no whole number; expected digits, without zeros before them",
                           excerpt(text, 60));
    return {};
}

std::string check_number(const std::string& text) {
    if (text.empty()) return "the value is empty; expected a number";
    double value = 0;
    const auto error = parse(text, value);
    if (error == std::errc::result_out_of_range)
        return fmt::format("{} is beyond what a number can be", excerpt(text, 60));
    if (error != std::errc())
        return fmt::format("'{}' is no number; expected one like 0.001 or 1e-3", excerpt(text, 60));
    return {};
}

std::string check_flag(const std::string& text) {
    return text == "true" || text == "false"
               ? std::string()
               : fmt::format("'{}' is neither true nor false", excerpt(text, 60));
}

std::string check_text(const std::string& text) {
    return text.empty() ? "the value is empty; give one, or leave the option out" : "";
}

/// Whether the libraries' messages may name it.
bool is_field(const std::string& name) {
    constexpr std::string_view others[] = {"images", "step", "resume"};
    return find_train_option(option_of(name)) ||
           std::find(std::begin(others), std::end(others), name) != std::end(others);
}

}  // namespace

std::string option_of(std::string_view field) {
    std::string option = fmt::format("--{}", field);
    std::replace(option.begin(), option.end(), '_', '-');
    return option;
}

std::string in_options(std::string text) {
    for (std::size_t begin = 0, end = 0; (begin = text.find('`', begin)) != std::string::npos; ++begin) {
        if ((end = text.find('`', begin + 1)) == std::string::npos) break;
        const std::string field = text.substr(begin + 1, end - begin - 1);
        // A path may have backquotes too.
        const bool in_a_path = begin > 0 && std::strchr(" (\"", text[begin - 1]) == nullptr;
        if (!in_a_path && is_field(field)) text.replace(begin, end - begin + 1, option_of(field));
    }
    return text;
}

std::string check_seed(const std::string& text) {
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    std::uint64_t seed = 0;
    return digits && parse(text, seed) == std::errc() ? "" : "expected 0 to 18446744073709551615";
}

void check_values(CLI::App& app) {
    for (CLI::Option* option : app.get_options()) {
        const std::string type = option->get_type_name();
        const bool flag = option->get_items_expected_max() == 0 || option->get_expected_min() == 0;
        if (option == app.get_help_ptr() || option->get_name() == "--version") continue;
        if (flag) {
            option->check(check_flag);
        } else if (type.starts_with("INT") || type.starts_with("UINT")) {
            option->check(check_whole);
        } else if (type.starts_with("FLOAT")) {
            option->check(check_number);
        } else {
            option->check(check_text);
        }
    }
    for (CLI::App* command : app.get_subcommands({})) check_values(*command);
}

std::string describe(const CLI::ParseError& error) {
    std::string text = error.what();
    // What check_values lets pass and the library cannot hold.
    constexpr std::string_view conversion = "Could not convert: ";
    const auto equals = text.find(" = ");
    if (text.starts_with(conversion) && equals != std::string::npos)
        text = fmt::format("{} {}: out of range", text.substr(conversion.size(), equals - conversion.size()),
                           text.substr(equals + 3));
    return excerpt(text, 250);
}

int report(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::string text = describe(error), command;  // " train"
    const CLI::App* innermost = &app;
    while (!innermost->get_subcommands().empty()) {
        innermost = innermost->get_subcommands().front();
        command += " " + innermost->get_name();
    }
    const auto rest = app.remaining(true), before = app.remaining();
    if (innermost == &app) {
        text = rest.empty() ? "a command is missing"
                            : fmt::format("{} is not a command",
                                          rest.front().empty() ? "''" : excerpt(rest.front(), 60));
    } else if (!before.empty()) {
        text =
            fmt::format("{} stands before the command; its options follow it", excerpt(before.front(), 60));
    } else if (!rest.empty()) {
        const std::string first = excerpt(rest.front(), 60);
        text = first.starts_with('-') ? fmt::format("ito{} has no option {}", command, first)
                                      : fmt::format("'{}' belongs to no option", first);
    }
    fmt::print(stderr, "ito: {} (see {}{} --help)\n", text, program(), command);
    return 2;  // wrong usage
}

}  // namespace ito::apps
