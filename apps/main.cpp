#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "apps/terminal.h"
#include "apps/train_options.h"
#include "apps/version.h"
#include "core/choices.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "kernels/cpu/instruction_set.h"

namespace ito::apps {

void Execution::add_options(CLI::App& app) {
    add_train_option(app, "--device", device);
    add_train_option(app, "--threads", threads);
    add_train_option(app, "--precision", precision);
    add_launch_options(app);
}

void Execution::add_launch_options(CLI::App& app) {
    app.add_flag("--no-graph", no_graph, "On CUDA: launch kernels one by one; the same bits");
    app.add_flag("--no-autotune", no_autotune,
                 "On CUDA: take the first guess of a kernel's variant, untimed");
}

Computation Execution::computation() const {
    const Device chosen = Device::parse(device);
    return {chosen, parse_precision(precision, chosen)};
}

std::string Execution::text() const {
    const Computation chosen = computation();
    std::string note;
    if (chosen.device.is_cuda()) {
        note = cuda::device_info(chosen.device.index).name;
    } else if (built_with_cuda && device == "auto") {
        note = cuda::why_no_device();
    }
    const std::string text = fmt::format("{}, {}", to_string(chosen.device), name_of(chosen.precision));
    return note.empty() ? text : fmt::format("{} ({})", text, note);
}

Computation Execution::apply() const {
    const Computation chosen = computation();
    require(weight_gradients == "float32" || weight_gradients == "bfloat16",
            "--weight-gradients {}: expected float32 or bfloat16", weight_gradients);
    require(threads >= 0 && threads <= 1024, "--threads {}: expected 0 (all) to 1024", threads);
    if (threads > 0) set_threads(threads);
    if (chosen.device.is_cuda()) {
        using kernels::MathMode;
        set_math_mode(chosen.device,
                      chosen.precision == Precision::tf32 ? MathMode::tf32 : MathMode::float32);
        set_bfloat16_weight_gradients(chosen.device, weight_gradients == "bfloat16");
        set_autotune(!no_autotune);
    }
    return chosen;
}

namespace {

/// If a standard stream is closed, the next file that is opened would get its number, and what is printed would go into it.
void keep_standard_streams_apart() {
    for (const int stream : {0, 1, 2})
        if (fcntl(stream, F_GETFD) < 0 && errno == EBADF)
            static_cast<void>(open("/dev/null", stream == 2 ? O_WRONLY : O_RDONLY));
}

int fail_with(const std::string& text) {
    fmt::print(stderr, "ito: {}\n", in_options(text));
    return 1;
}

int fail_without_output() {
    return fail_with(fmt::format("standard output cannot be written: {}", std::strerror(errno)));
}

/// The status of a command whose result is what it prints.
int printed(int status) {
    return status == 0 && (std::fflush(stdout) != 0 || std::ferror(stdout)) ? fail_without_output() : status;
}

/// `prints`: the command's result is what it prints.
struct Command {
    CLI::App* app;
    Action action;
    bool prints;
};

}  // namespace
}  // namespace ito::apps

int main(int argc, char** argv) {
    using namespace ito::apps;
    keep_standard_streams_apart();
    if (argc > 0) set_program(argv[0]);
    std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is then an error like a full disk
    CLI::App app("Trains and samples denoising diffusion models.", "ito");
    app.require_subcommand(1);
    app.set_version_flag("--version", version_text, "What was built, how, and what it runs with here");
    app.get_formatter()->column_width(40);
    const auto define = [&](const char* name, const char* text, Action (*add)(CLI::App&), bool prints) {
        CLI::App* command = app.add_subcommand(name, text);
        return Command{command, add(*command), prints};
    };
    const auto commands = {
        define("train", "Train a model on a data set, or resume a training", add_train, false),
        define("sample", "Draw images from a trained model", add_sample, false),
        define("figures", "Draw what a trained model does: both processes, real beside generated",
               add_figures, false),
        define("bench", "Time training and sampling steps", add_bench, true),
        define("inspect", "Layers, cost, memory and weights of a model", add_inspect, true),
        define("doctor", "What this machine can run, and what is missing", add_doctor, true),
        define("completion", "Print a script that completes commands in bash", add_completion, true)};
    check_values(app);
    try {
        const std::string& instructions = ito::kernels::limit_instruction_set();
        ito::require(instructions.empty(), "ITO_CPU={}: expected avx2 or portable", instructions);
        app.parse(argc, argv);
        for (const auto& [command, action, prints] : commands)
            if (command->parsed()) return prints ? printed(action()) : action();
    } catch (const CLI::ParseError& error) {
        return printed(report(app, error));
    } catch (const std::bad_alloc&) {
        return fail_with("out of memory; a smaller --batch, --image-size or model needs less");
    } catch (const std::filesystem::filesystem_error& error) {
        return fail_with(ito::excerpt(
            fmt::format("{}: {}", ito::excerpt(error.path1().string(), 200), error.code().message()), 280));
    } catch (const std::system_error& error) {
        return std::ferror(stdout) ? fail_without_output() : fail_with(error.what());
    } catch (const std::exception& error) {
        return fail_with(error.what());
    }
    return 0;
}
