#pragma once
// The options of diffusion/training/train_options.def on the command line and in TOML files.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "diffusion/training/train_config.h"

namespace ito::apps {

/// Adds them all with the fields of `config`; --help has a section for each group.
void add_train_options(CLI::App& app, diffusion::TrainConfig& config);

/// Adds one of them ("--device") to another command. T is the type of its field.
template <class T>
CLI::Option* add_train_option(CLI::App& app, std::string_view option, T& value);

/// The one that is called so on the command line, if there is one.
std::optional<diffusion::TrainOption> find_train_option(std::string_view option);

/// As a file for --config. What the command line cannot give either (empty values, zero steps) is left out.
std::string to_toml(const diffusion::TrainConfig& config);

}  // namespace ito::apps
