#pragma once
// --config FILE: the options of a command from a TOML file, under their names on the command line:
//
//   batch = 128
//   channel-mults = [1, 2, 2, 2]
//   flip = true
//
// CLI11 2.1 has a reader of its own, which is not used: it works for the program only, not for a command of it, cuts
// strings at '#', joins keys that are there twice, and knows neither the types of values nor their lines.

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>

namespace ito::apps {

class ConfigFile {
  public:
    /// Adds --config to a command.
    void add_option(CLI::App& app);

    /// Runs the command once the command line is parsed. Before that each option of the file that the command line
    /// does not have gets its value there, as if it had been given. Errors about it name file, line and key.
    int run(CLI::App& app, const std::function<int()>& command);

  private:
    void apply(CLI::App& app);
    /// `error` with the file and the line before it if it is about an option that the file gave.
    std::string located(const std::string& error) const;

    std::string path_;
    std::map<std::string, unsigned> lines_;  ///< of the options taken from the file
};

}  // namespace ito::apps
