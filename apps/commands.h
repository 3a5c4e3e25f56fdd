#pragma once
// The commands of `ito`. Each adds its options to the command line and returns what to do when it was chosen;
// that returns the exit status.

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "core/precision.h"
#include "diffusion/training/train_config.h"

namespace ito::apps {

using Action = std::function<int()>;

Action add_train(CLI::App& app);
Action add_sample(CLI::App& app);
Action add_figures(CLI::App& app);
Action add_bench(CLI::App& app);
Action add_doctor(CLI::App& app);
Action add_inspect(CLI::App& app);
Action add_completion(CLI::App& app);

/// The training that `ito train --config FILE` would begin. Throws Error as that does.
diffusion::TrainConfig read_train_config(const std::string& file);

/// Where and how networks run: options of every command that runs one.
struct Execution {
    std::string device = "auto";
    int threads = 0;
    std::string precision = "auto";
    bool no_graph = false, no_autotune = false;
    std::string weight_gradients = "float32";

    void add_options(CLI::App& app);
    /// --no-graph and --no-autotune alone.
    void add_launch_options(CLI::App& app);
    /// Throws Error for a device that is not there, and for a precision that it does not have.
    Computation computation() const;
    /// "cuda:0, bfloat16 (NVIDIA H100 80GB HBM3)"; in a build with CUDA also why `auto` chose the CPU: "cpu, float32
    /// (no NVIDIA driver answers)".
    std::string text() const;
    /// Checks all of it and sets threads, math mode and whether kernels are chosen by timing.
    Computation apply() const;
};

}  // namespace ito::apps
