#pragma once
// The commands of `ito`. Each adds its options to the command line and returns what to do when it was chosen;
// that returns the exit status.

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "core/device.h"

#include "diffusion/train_config.h"

namespace ito::apps {

using Action = std::function<int()>;

Action add_train(CLI::App& app);
Action add_sample(CLI::App& app);
Action add_figures(CLI::App& app);
Action add_bench(CLI::App& app);
Action add_doctor(CLI::App& app);
Action add_inspect(CLI::App& app);
Action add_completion(CLI::App& app);

/// What `ito train --config FILE` would train; throws Error as that does.
diffusion::TrainConfig read_train_config(const std::string& file);

/// For --seed: the library alone would take -1 for the largest number. Empty if `text` is a seed.
std::string check_seed(const std::string& text);

/// Device and threads, as every command takes them.
struct Execution {
    std::string device = "auto";
    int threads = 0;

    void add_options(CLI::App& app);
    /// The device that networks run on. Throws Error for one that is not there, or that cannot run a network yet; `auto`
    /// falls back to the CPU.
    Device network_device() const;
    /// "cpu", and, in a build with CUDA, why `auto` did not take CUDA: "cpu (no NVIDIA driver answers)".
    std::string device_text() const;
    /// Checks the device and sets the threads.
    void apply() const;
};

}  // namespace ito::apps
