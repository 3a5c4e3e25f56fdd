#pragma once
// The names of options, the checks of all values that CLI11 leaves out, and the errors about wrong command lines.

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

namespace ito::apps {

/// "--beta-start" of the field beta_start.
std::string option_of(std::string_view field);
/// A message of the libraries for the command line: the field `beta_start` becomes --beta-start.
std::string in_options(std::string message);

/// Empty if `text` is a seed. CLI11 alone would read -1 as the largest number.
std::string check_seed(const std::string& text);

/// Makes all options of `app` and its commands refuse empty values and what CLI11 would misread: nothing as 0, 010 as 8.
void check_values(CLI::App& app);

/// CLI11's error in one line that says what was expected.
std::string describe(const CLI::ParseError& error);

/// Reports an error in the command line of `app`, or prints --help or --version. Returns the exit status.
int report(const CLI::App& app, const CLI::ParseError& error);

}  // namespace ito::apps
