#pragma once
// The names of options, what their own definitions leave open about their values, and what is said about wrong command lines.

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

namespace ito::apps {

/// "--beta-start" of the field beta_start.
std::string option_of(std::string_view field);
/// A message of the libraries, which name fields (`beta_start`), as the command line has it (--beta-start).
std::string in_options(std::string message);

/// For seeds: the library alone would take -1 for the largest number. Empty if `text` is a seed.
std::string check_seed(const std::string& text);

/// Refuses, for all options of `app` and its commands, what the library would take for a number (nothing at all for 0,
/// 010 for 8), and empty names.
void check_values(CLI::App& app);

/// The library's error in one line that says what was expected.
std::string describe(const CLI::ParseError& error);

/// Reports an error of the command line of `app`, or prints what --help and --version ask for; the exit status.
int report(const CLI::App& app, const CLI::ParseError& error);

}  // namespace ito::apps
