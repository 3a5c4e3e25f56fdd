#pragma once
// The commands of `ito`. Each adds its options to the command line and returns what to do when it was chosen;
// that returns the exit status.

#include <CLI/CLI.hpp>
#include <functional>

namespace ito::apps {

using Action = std::function<int()>;

Action add_train(CLI::App& app);
Action add_sample(CLI::App& app);
Action add_figures(CLI::App& app);
Action add_bench(CLI::App& app);
Action add_doctor(CLI::App& app);
Action add_completion(CLI::App& app);

/// For --seed: the library alone would take -1 for the largest number. Empty if `text` is a seed.
std::string check_seed(const std::string& text);

/// Device and threads, as every command takes them.
struct Execution {
    std::string device = "auto";
    int threads = 0;

    void add_options(CLI::App& app);
    /// Applies them; throws Error for a device that is not there.
    void apply() const;
};

}  // namespace ito::apps
