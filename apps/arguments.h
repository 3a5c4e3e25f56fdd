#pragma once
// What the options' own definitions leave open about their values, and what is said about wrong command lines.

#include <CLI/CLI.hpp>
#include <string>

namespace ito::apps {

/// Refuses, for all options of `app` and its commands, what the library would take for a number (nothing at all for 0,
/// 010 for 8), and empty names.
void check_values(CLI::App& app);

/// The library's error in one line that says what was expected.
std::string describe(const CLI::ParseError& error);

/// Reports an error of the command line of `app`, or prints what --help and --version ask for; the exit status.
int report(const CLI::App& app, const CLI::ParseError& error);

}  // namespace ito::apps
