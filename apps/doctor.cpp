// ito doctor: what this machine can run, what is missing, and what to do about it.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "apps/machine.h"
#include "apps/terminal.h"
#include "apps/train_options.h"
#include "apps/version.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/io/system.h"
#include "diffusion/data/folder.h"
#include "diffusion/run/run.h"
#include "diffusion/training/train_config.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
/// The default model with its 60,000 images takes 540 MiB (peak resident set), and the system needs some.
constexpr std::uint64_t least_memory = 640 * mib;
/// Two checkpoints of the default model (the new one is written beside the old one) and its pictures.
constexpr std::uint64_t least_disk = 100 * mib;

std::string human(std::uint64_t bytes) {
    return bytes < 1024 * mib ? fmt::format("{} MiB", bytes / mib)
                              : fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1024.0 * mib));
}

struct DoctorCommand {
    std::string data = "fashion-mnist", data_dir, device = "auto";
    std::int64_t image_size = 0;
    bool skip_broken = false;

    int operator()();

  private:
    void good(const char* what, const std::string& text) { row("ok", what, text, {}); }
    void note(const char* what, const std::string& text, const std::string& advice = {}) {
        row("note", what, text, advice);
    }
    /// A reason for which `ito train` with these options would stop.
    void problem(const char* what, const std::string& text, const std::string& advice) {
        row("BAD", what, text, advice);
        problems_.emplace_back(what);
    }
    static void row(const char* mark, const char* what, const std::string& text, const std::string& advice) {
        fmt::print("  {:4}  {:16} {}\n", mark, what, in_options(excerpt(text, 1000)));
        if (!advice.empty()) fmt::print("  {:4}  {:16} -> {}\n", "", "", advice);
    }

    void processor();
    void memory_and_pages();
    void devices();
    void data_sets();
    void named_data_set(const std::string& name);
    void image_folder();
    void current_folder();
    std::string new_run() const;

    std::vector<std::string> problems_;
};

void DoctorCommand::processor() {
    const std::string name = processor_name();
    good("processor", fmt::format("{}, {} of {} processors usable", name.empty() ? "of unknown make" : name,
                                  threads(), online_processors()));
    good("instruction set", instruction_set_line());
    good("its features", fmt::format("{}", fmt::join(processor_features(), " ")));
    if (const auto limit = processor_limit(); limit && *limit < threads())
        note("processor time", fmt::format("the container is limited to {:.1f} processors", *limit),
             fmt::format("give ito train --threads {}", std::max(1, static_cast<int>(*limit))));
}

void DoctorCommand::memory_and_pages() {
    const auto have = system::memory();
    const auto text = fmt::format("{}, {} of it available", human(have.total), human(have.available));
    if (have.available >= least_memory) {
        good("memory", text);
    } else {
        problem(
            "memory", text,
            fmt::format(
                "at least {} needed; close other programs, or raise the limit (ulimit -v, the container's)",
                human(least_memory)));
    }
    const std::string pages = huge_pages();
    if (pages == "always" || pages == "madvise") {
        good("huge pages", pages);
    } else if (pages == "never") {
        note("huge pages", "switched off, which costs a little speed",
             "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled");
    } else {
        note("huge pages", "not supported by this kernel, which costs a little speed");
    }
}

void DoctorCommand::devices() {
    if (const auto all = cuda_devices(); !all.empty()) {
        good("CUDA devices", fmt::format("{}", fmt::join(all, "; ")));
        const auto info = cuda::device_info(0);
        good("CUDA driver",
             fmt::format("for CUDA {}.{}, ito is built with {}.{}", info.driver / 1000,
                         info.driver % 1000 / 10, info.runtime / 1000, info.runtime % 1000 / 10));
        kernels::LibraryHandles& libraries = *context_of(Device::cuda()).libraries;
        const auto library = [&](const char* name, bool found, const std::string& why, const char* instead) {
            if (found) return good(name, "is used where it is fastest");
            note(name, fmt::format("cannot be used, {} by hand-written kernels: {}", instead, why));
        };
        const bool cudnn = libraries.cudnn() != nullptr, cublaslt = libraries.cublaslt() != nullptr;
        library("cuDNN", cudnn, libraries.why_not_cudnn(), "convolutions run");
        library("cuBLASLt", cublaslt, libraries.why_not_cublaslt(), "matrix products run");
    } else if (built_with_cuda) {
        note("CUDA devices", fmt::format("none: {}", cuda::why_no_device()));
    } else {
        note("CUDA devices", nvidia_driver()
                                 ? "an NVIDIA driver is loaded, but this build of ito has no CUDA"
                                 : "this build of ito has no CUDA, and no NVIDIA driver is loaded");
    }
    try {
        good("device", fmt::format("--device {} is {}", device, Execution{device}.text()));
    } catch (const Error& error) {
        problem("device", error.what(), "give --device cpu, or leave it out");
    }
}

/// Reads the whole set, as training would, to find a damaged file.
void DoctorCommand::named_data_set(const std::string& name) {
    try {
        const auto set = diffusion::load_dataset(name, {.data_dir = data_dir, .image_size = image_size});
        good(name.c_str(),
             fmt::format("{} images of {}x{}x{}", set.count, set.height, set.width, set.channels));
    } catch (const Error& error) {
        const std::string install =
            name == "fashion-mnist" && data_dir.empty() ? "sudo apt-get install dataset-fashion-mnist" : "";
        if (name == data) {
            problem(name.c_str(), error.what(), install);
        } else {
            note(name.c_str(), error.what(), install);
        }
    }
}

/// Decodes every image, as training would, to find broken ones, other sizes, and files that are passed over.
void DoctorCommand::image_folder() {
    std::error_code ignored;
    if (!fs::is_directory(data, ignored) || !data_dir.empty())
        return problem(
            "data",
            fmt::format("{}: is {}", data,
                        data_dir.empty() ? "not a folder"
                                         : "a folder of images, with which --data-dir has no meaning"),
            data_dir.empty() ? "give --data a folder of images, or fashion-mnist" : "leave --data-dir out");
    try {
        const diffusion::FolderScan scan = diffusion::scan_folder(data);
        for (const std::string& line : scan.notes) note("data", line);
        const auto set = diffusion::load_folder(scan, {.image_size = image_size, .skip_broken = skip_broken});
        for (std::size_t i = scan.notes.size(); i < set.notes.size(); ++i) note("data", set.notes[i]);
        static_cast<void>(diffusion::TrainConfig().unet(set.height, set.width, set.channels));
        good("data", fmt::format("{}: {} of {}x{}x{}", data, counted(set.count, "image"), set.height,
                                 set.width, set.channels));
    } catch (const Error& error) {
        problem("data", error.what(), {});
    }
}

void DoctorCommand::data_sets() {
    for (const char* name : {"fashion-mnist", "mnist", "cifar10"})
        if (name == data || diffusion::is_dataset_name(data)) named_data_set(name);
    if (!diffusion::is_dataset_name(data)) image_folder();
}

void DoctorCommand::current_folder() {
    std::error_code failure;
    const fs::path here = fs::current_path(failure);
    if (failure) return problem("current folder", failure.message(), "cd to a folder that exists");
    if (const auto reason = why_not_writable(here); !reason.empty())
        return problem("current folder", fmt::format("{}: cannot be written ({})", here.string(), reason),
                       "cd to a folder of yours, or give ito train --out");
    const auto free = fs::space(here, failure).available;
    const auto text = fmt::format("{}: can be written, {} free", here.string(), human(free));
    if (failure || free >= least_disk) return good("current folder", text);
    problem(
        "current folder", text,
        fmt::format("a run needs {}; delete files, or give ito train --out elsewhere", human(least_disk)));
}

/// A name for the run that is free.
std::string DoctorCommand::new_run() const {
    const fs::path path = fs::absolute(data).lexically_normal();
    const std::string name = "runs/" + (path.has_filename() ? path : path.parent_path()).filename().string();
    std::string run = name;
    for (int i = 2; !diffusion::Run(run).vacant(); ++i) run = fmt::format("{}-{}", name, i);
    return run;
}

int DoctorCommand::operator()() {
    fmt::print("{}\n\n", version_line());
    good("build", build_line());
    good("libraries", libraries_line());
    processor();
    memory_and_pages();
    devices();
    data_sets();
    current_folder();
    if (problems_.empty()) {
        std::string command = fmt::format("{} train --data {}", program(), shell_word(data));
        if (!data_dir.empty()) command += fmt::format(" --data-dir {}", shell_word(data_dir));
        if (image_size > 0) command += fmt::format(" --image-size {}", image_size);
        if (skip_broken) command += " --skip-broken";
        if (device != "auto") command += fmt::format(" --device {}", device);
        fmt::print("\nTraining can run: {} --out {}\n", command, shell_word(new_run()));
        return 0;
    }
    fmt::print("\nTraining cannot run yet. To be fixed: {}\n", fmt::join(problems_, ", "));
    return 1;
}

}  // namespace

Action add_doctor(CLI::App& app) {
    auto command = std::make_shared<DoctorCommand>();
    auto& c = *command;
    app.add_option("--data", c.data, "What to train on: fashion-mnist, mnist, cifar10, or a folder of images")
        ->capture_default_str();
    add_train_option(app, "--data-dir", c.data_dir);
    app.add_option("--image-size", c.image_size, "Scale and crop to this side, as ito train does")
        ->capture_default_str();
    add_train_option(app, "--skip-broken", c.skip_broken);
    add_train_option(app, "--device", c.device);
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
