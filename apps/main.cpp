#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <new>

#include "apps/commands.h"
#include "apps/version.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/dispatch.h"
#include "core/error.h"

namespace ito::apps {

std::string check_seed(const std::string& text) {
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    std::uint64_t seed = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seed);
    return digits && parsed.ec == std::errc() ? "" : "expected 0 to 18446744073709551615";
}

void Execution::add_options(CLI::App& app) {
    app.add_option("--device", device, "auto, cpu, cuda or cuda:N")->capture_default_str();
    app.add_option("--threads", threads, "CPU threads, 0 for all; never changes a result")
        ->capture_default_str();
}

Device Execution::network_device() const {
    const Device parsed = Device::parse(device);
    if (parsed.is_cpu()) return parsed;
    require(device == "auto",
            "--device {}: convolutions and linear layers do not run on CUDA yet; use --device cpu", device);
    return Device::cpu();
}

std::string Execution::device_text() const {
    const Device chosen = network_device();
    if (!built_with_cuda || device != "auto") return to_string(chosen);
    const std::string why = cuda::why_no_device();
    return fmt::format("{} ({})", to_string(chosen), why.empty() ? "networks do not run on CUDA yet" : why);
}

void Execution::apply() const {
    network_device();
    require(threads >= 0 && threads <= 1024, "--threads {}: expected 0 (all) to 1024", threads);
    if (threads > 0) set_threads(threads);
}

namespace {

/// One line, where the library would take two and name no command; 2 is the status of wrong usage.
int report(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version
    std::string text = error.what(), command = "ito";
    std::replace(text.begin(), text.end(), '\n', ' ');
    const auto rest = app.remaining();
    if (app.get_subcommands().empty())
        text = rest.empty() ? "a command is missing" : rest.front() + " is not a command";
    for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
    std::fprintf(stderr, "ito: %s (see %s --help)\n", text.c_str(), command.c_str());
    return 2;
}

}  // namespace
}  // namespace ito::apps

int main(int argc, char** argv) {
    using namespace ito::apps;
    std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk, with its name
    CLI::App app("Trains and samples denoising diffusion models.", "ito");
    app.require_subcommand(1);
    app.set_version_flag("--version", version_text, "What was built, how, and what it runs with here");
    app.get_formatter()->column_width(40);
    const auto define = [&](const char* name, const char* text, Action (*add)(CLI::App&)) {
        CLI::App* command = app.add_subcommand(name, text);
        return std::pair{command, add(*command)};
    };
    const auto commands = {
        define("train", "Train a model on a data set, or resume a training", add_train),
        define("sample", "Draw images from a trained model", add_sample),
        define("figures", "Draw what a trained model does: both processes, real beside generated",
               add_figures),
        define("bench", "Time training and sampling steps", add_bench),
        define("inspect", "Layers, cost, memory and weights of a model", add_inspect),
        define("doctor", "What this machine can run, and what is missing", add_doctor),
        define("completion", "Print a script that completes commands in bash", add_completion)};
    try {
        app.parse(argc, argv);
        for (const auto& [command, action] : commands)
            if (command->parsed()) return action();
    } catch (const CLI::ParseError& error) {
        return report(app, error);
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "ito: out of memory; a smaller --batch needs less\n");
        return 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ito: %s\n", error.what());
        return 1;
    }
    return 0;
}
