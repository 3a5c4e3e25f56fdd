#pragma once
// --config FILE: the options of a command from a TOML file, under their names on the command line:
//
//   batch = 128
//   channel-mults = [1, 2, 2, 2]
//   flip = true
//
// The reader of CLI11 2.1 would not do: it works for a program but not for its commands, cuts strings at '#', joins duplicate
// keys, and knows neither the types of values nor their lines.

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>

namespace ito::apps {

class ConfigFile {
  public:
    /// Adds --config to a command.
    void add_option(CLI::App& app);

    /// Runs the command after the command line was parsed. First it gives each option that is only in the file the value there,
    /// as if it had been typed. Errors about such an option name file, line and key.
    int run(CLI::App& app, const std::function<int()>& command);

  private:
    void apply(CLI::App& app);
    /// `error`, after file and line if it is about an option from the file.
    std::string located(const std::string& error) const;

    std::string path_;
    std::map<std::string, unsigned> lines_;  ///< of the options taken from the file
};

}  // namespace ito::apps
