// ito train: trains a model on a data set, or goes on where a run stopped.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/arguments.h"
#include "apps/commands.h"
#include "apps/config_file.h"
#include "apps/init_from.h"
#include "apps/left_out.h"
#include "apps/machine.h"
#include "apps/memory_advice.h"
#include "apps/terminal.h"
#include "apps/train_options.h"
#include "apps/training_loop.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/text_file.h"
#include "diffusion/data/folder_scan.h"
#include "diffusion/pipeline/pipeline.h"
#include "diffusion/run/run_lock.h"

namespace ito::apps {
namespace {

namespace fs = std::filesystem;
using namespace diffusion;

constexpr std::int64_t default_steps = 10000;

std::string absolute_path(const std::string& path) {
    const fs::path absolute = fs::absolute(path).lexically_normal();
    return (absolute.has_filename() ? absolute : absolute.parent_path()).string();
}

/// True if `path` is `folder` or lies in it.
bool lies_in(const fs::path& path, const fs::path& folder) {
    const fs::path inner = fs::weakly_canonical(fs::absolute(path)), outer = fs::weakly_canonical(folder);
    return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

struct TrainCommand {
    TrainConfig config;
    std::string out, resume;
    bool data_changed = false;
    bool anomaly = false, dry_run = false;
    bool begun = false;  ///< this command made the folder of the run
    Execution execution;
    StepTrace trace;
    ConfigFile file;
    CLI::App* app = nullptr;
    std::optional<RunLock> lock;
    std::vector<std::string> notes;     ///< what was chosen and converted, a line each
    std::vector<std::string> left_out;  ///< files of the data set

    int operator()();

  private:
    int run_command();
    int train(const Run& run, const ModelConfig& model, std::shared_ptr<nn::UNet> weights, Dataset&& data,
              const TrainerOptions& options);
    [[noreturn]] void end_out_of_memory(const Run& run, const OutOfMemory& error, const Fitting& fits) const;
    bool given(const std::string& option) const { return app->count(option) > 0; }
    Run new_run();
    Run open_run();
    void begin(const Run& run);
    void require_room(const Run& run, Trainer& trainer) const;
    void write_config(const Run& run) const;
    void continue_from(const Run& run, Trainer& trainer);
};

Run TrainCommand::new_run() {
    require(!out.empty() || dry_run, "--out is missing: the folder that the run is written to");
    if (config.run.steps == 0 && config.run.minutes == 0) config.run.steps = default_steps;
    const Run run(out);
    require(!run.exists() || run.vacant(),
            "--out {}: holds a run already; continue it with --resume {}, or choose another folder", out,
            shell_word(out));
    require(run.vacant(), "--out {}: exists and is not an empty folder; choose another", out);
    if (!out.empty()) {
        const std::string why = why_no_folder(run.root());
        require(why.empty(), "--out {}: the folder cannot be created: {}; choose another", out, why);
    }
    require(
        out.empty() || is_dataset_name(config.data.data) || !lies_in(out, config.data.data) ||
            !lies_in(out, scan_folder(config.data.data).folder),  // it may lie beside the split that is used
        "--out {}: lies in the folder of --data, so that its samples would become data; choose another", out);
    return run;
}

Run TrainCommand::open_run() {
    const Run run(resume);
    require(out.empty() || Run(out).root() == run.root(),
            "--out {}: --resume goes on in {}; give one of them", out, resume);
    require(run.exists(), "--resume {}: not a run of ito train ({} is missing)", resume,
            run.config().string());
    lock.emplace(run.lock(), run.root());
    TrainConfig saved = TrainConfig::from_json(read_json_text(run.config()), run.config().string());
    for_each_option(
        [&](const TrainOption& option, auto& kept, const auto& wanted) {
            const std::string name = option_of(option.name);
            if (!given(name)) return;
            // The images may have moved. Their number and size are checked with the checkpoint.
            const bool moved =
                name == "--data" && !is_dataset_name(saved.data.data) && !is_dataset_name(config.data.data);
            require(option.resumable || moved || kept == wanted,
                    "{} {}: the run was trained with {}; a resumed training keeps it", name,
                    nlohmann::json(wanted).dump(), nlohmann::json(kept).dump());
            kept = wanted;
        },
        saved, config);
    // A time limit is for one command. But a run whose steps are not planned yet has no other end, and keeps it.
    if (saved.run.steps > 0) saved.run.minutes = config.run.minutes;
    require(given("--data") || is_dataset_name(saved.data.data) || fs::is_directory(saved.data.data),
            "--data {}: is no folder, but the images of the run were there; give --data with their new place",
            saved.data.data);
    config = saved;
    return run;
}

void TrainCommand::continue_from(const Run& run, Trainer& trainer) {
    if (const auto checkpoint = run.latest_checkpoint()) {
        if (config.data.skip_broken && !data_changed)
            check_left_out(run, scan_folder(config.data.data).folder, left_out);
        const fs::path file = *checkpoint / "state.json";
        const std::int64_t then = TrainerState::from_json(read_json_text(file), file.string()).dataset[0],
                           now = trainer.images().count();
        require(then == now || data_changed,
                "--resume {0}: was trained on {1}, and there are {2} now; --data-changed goes on with these, "
                "or begin anew with its weights: {3} train --init-from {0} --data {4}{5} --out NEW",
                shell_word(resume), counted(then, "image"), now, program(), shell_word(config.data.data),
                config.data.data_dir.empty() ? "" : " --data-dir " + shell_word(config.data.data_dir));
        if (then != now) fmt::print("on with {}; {} before\n", counted(now, "image"), counted(then, "image"));
        trainer.load(*checkpoint, ImageCount::any);
    } else {
        // A training that never saved begins again. One that did save would lose its weights.
        require(!fs::exists(run.unet_weights()),
                "--resume {}: the checkpoint is gone ({}/step-*), and a training from the beginning would "
                "replace the run's weights; choose another folder with --out",
                resume, run.trainer().string());
    }
    if (config.run.steps > 0) {
        trainer.set_total_steps(config.run.steps);
    } else if (trainer.total_steps() > 0) {
        config.run.steps = trainer.total_steps();  // as planned from --minutes
        if (!given("--minutes")) config.run.minutes = 0;
    }
    // Without a report it was killed between its last checkpoint and its end; what is missing is made now.
    require(trainer.total_steps() == 0 || trainer.steps_done() < trainer.total_steps() ||
                !fs::exists(run.report()),
            "--resume {}: is trained for {} already; give --steps more than that to go on", resume,
            counted(trainer.steps_done(), "step"));
}

/// Makes the folder of a new run.
void TrainCommand::begin(const Run& run) {
    make_folder(run.root());
    lock.emplace(run.lock(), run.root());
    require(run.vacant(), "--out {}: another process began a run there just now; choose another folder", out);
    if (run.exists()) run.discard();
}

/// Both forms of the options. config.json comes first, as it makes the folder a run.
void TrainCommand::write_config(const Run& run) const {
    write_file_atomically(run.config(), config.to_json());
    write_file_atomically(
        run.config_toml(),
        fmt::format(
            "# Every option of this run. The same training again: ito train --config {} --out NEW\n{}",
            run.config_toml().filename().string(), to_toml(config)));
}

int TrainCommand::operator()() {
    return file.run(*app, [this] { return run_command(); });
}

int TrainCommand::run_command() {
    require(given("--trace") || !given("--trace-step"), "--trace-step: is about --trace; give that too");
    require(!given("--steps") || config.run.steps > 0, "--steps {}: expected 1 or more", config.run.steps);
    config.validate();
    // Absolute paths, so that the run can be continued from another folder.
    if (!is_dataset_name(config.data.data) && fs::is_directory(config.data.data))
        config.data.data = absolute_path(config.data.data);
    if (!config.data.data_dir.empty()) config.data.data_dir = absolute_path(config.data.data_dir);
    if (!config.model.init_from.empty()) config.model.init_from = absolute_path(config.model.init_from);
    require((config.model.weights == "ema" && config.model.variant.empty()) ||
                !config.model.init_from.empty() || given("--resume"),
            "{}: is about the weights to begin with; give --init-from too",
            config.model.variant.empty() ? "--weights" : "--variant");
    require(!data_changed || given("--resume"), "--data-changed: is about --resume");
    const Run run = given("--resume") ? open_run() : new_run();
    execution.device = config.run.device;
    execution.threads = config.run.threads;
    execution.precision = config.run.precision;
    execution.weight_gradients = config.run.weight_gradients;
    const Computation computation = execution.apply();

    auto start = open_beginning(
        config, [this](const std::string& option) { return given(option); },
        given("--resume") ? &run : nullptr);
    Dataset data = load_dataset(config.data.data, {.data_dir = config.data.data_dir,
                                                   .image_size = config.data.image_size,
                                                   .skip_broken = config.data.skip_broken,
                                                   .resumed = given("--resume")});
    if (start) notes = start->notes;
    std::transform(data.notes.begin(), data.notes.end(), std::back_inserter(notes), in_options);
    left_out = data.left_out;
    if (start) data = with_channels(std::move(data), start->model.unet.in_channels);
    const ModelConfig model =
        start ? start->model_for(data.height, data.width)
              : ModelConfig{config.unet(data.height, data.width, data.channels), config.scheduler()};
    const std::size_t data_bytes = data.images.size();
    // A trace and the search for NaN need the ops one by one.
    const TrainerOptions options{.computation = computation,
                                 .graph = !(execution.no_graph || anomaly || given("--trace"))};
    try {
        return train(run, model, start ? std::move(start->weights) : nullptr, std::move(data), options);
    } catch (const OutOfMemory& error) {
        end_out_of_memory(run, error, training_that_fits(config, model, options, data_bytes));
    }
}

/// One line that says what would fit. A run without a checkpoint is removed, so that its name is free for another try.
void TrainCommand::end_out_of_memory(const Run& run, const OutOfMemory& error, const Fitting& fits) const {
    const auto checkpoint = run.latest_checkpoint();
    if (!checkpoint && begun) run.discard();
    std::string advice;
    if (given("--resume")) {
        advice =
            "a resumed training keeps its batch and image size: end other programs, or resume on another "
            "device";
    } else if (fits.batch >= config.optimizer.batch) {
        advice = "other programs use the device's memory, or previews need more than a step does";
    } else {
        if (fits.batch > 0)
            advice = fmt::format("--batch {} fits, and --grad-accum keeps the number of images of a step",
                                 fits.batch);
        if (fits.image_size > 0)
            advice += fmt::format("{}--image-size {} fits with this batch", advice.empty() ? "" : "; or ",
                                  fits.image_size);
        if (advice.empty()) advice = "not even one image fits; use a smaller --base-channels or --image-size";
    }
    fail("{}; {}{}", error.what(), advice,
         checkpoint ? fmt::format("; the checkpoint {} stays", checkpoint->filename().string())
                    : std::string());
}

/// Throws Error before the training begins if it could not be saved.
void TrainCommand::require_room(const Run& run, Trainer& trainer) const {
    constexpr double mib = 1 << 20;
    // Weights, their average and two moments, in float32.
    const double checkpoint = 16.0 * static_cast<double>(trainer.model().parameter_count());
    const auto there = static_cast<std::int64_t>(run.checkpoint_steps().size());
    const std::int64_t left = trainer.total_steps() - trainer.steps_done();
    const std::int64_t saves = trainer.total_steps() > 0
                                   ? (left + config.run.save_every - 1) / config.run.save_every
                                   : config.run.keep + 1;
    // The oldest is removed when the next is complete.
    const std::int64_t more =
        std::clamp<std::int64_t>(config.run.keep + 1 - there, 1, std::max<std::int64_t>(saves, 1));
    std::error_code error;
    const fs::space_info disk = fs::space(run.root(), error);
    const auto available = static_cast<double>(disk.available);
    require(error || disk.capacity == 0 || static_cast<double>(more) * checkpoint <= available,
            "{}: the disk has {:.1f} MiB left, and {} of {:.1f} MiB each will be there at a time; choose "
            "another disk{}",
            run.root().string(), available / mib, counted(more, "checkpoint"), checkpoint / mib,
            config.run.keep > 1 ? ", or a lower --keep" : "");
}

int TrainCommand::train(const Run& run, const ModelConfig& model, std::shared_ptr<nn::UNet> weights,
                        Dataset&& data, const TrainerOptions& options) {
    Trainer trainer(config, model, std::move(data), options);
    if (weights) trainer.begin_from(*weights);
    weights.reset();
    if (given("--resume")) continue_from(run, trainer);
    trace.check(trainer.total_steps() > 0 ? trainer.total_steps() - trainer.steps_done() : 0);
    if (dry_run) {
        for (const std::string& note : notes) fmt::print("# note      {}\n", note);
        for (const std::string& line : training_description(config, trainer, run)) fmt::print("# {}\n", line);
        fmt::print("{}", to_toml(config));
        require(std::fflush(stdout) == 0, "--dry-run: standard output cannot be written");
        return 0;
    }
    autograd::set_anomaly_mode(anomaly);
    if (!given("--resume")) begin(run);
    begun = !given("--resume");
    require_room(run, trainer);
    run.remove_abandoned_files();
    write_config(run);
    if (config.data.skip_broken && (data_changed || !run.latest_checkpoint())) write_left_out(run, left_out);
    make_folder(run.samples());
    make_folder(run.trainer());
    write_pipeline(run.root(), model.unet, model.scheduler);
    catch_interrupts();
    for (const std::string& note : notes) fmt::print("note      {}\n", note);
    return run_training(config, trainer, run, *lock, trace);
}

void add_options(CLI::App& app, TrainCommand& c) {
    c.app = &app;
    app.add_option("--out", c.out, "Run directory to create");
    app.add_option("--resume", c.resume, "Run directory to continue");
    app.add_flag("--data-changed", c.data_changed, "With --resume: go on with another number of images");
    c.execution.add_launch_options(app);
    app.add_flag("--anomaly", c.anomaly, "Stop at the first NaN or infinity and name its op and layer; slow");
    app.add_flag("--dry-run", c.dry_run, "Check and print what would be trained, and end");
    app.add_option("--trace", c.trace.file, "Timeline of one step, a JSON file that Perfetto opens");
    app.add_option("--trace-step", c.trace.step, "Which step of this command; the first ones are slower")
        ->capture_default_str();
    c.file.add_option(app);
    add_train_options(app, c.config);
    app.get_option("--steps")->default_str(std::to_string(default_steps));
}

}  // namespace

TrainConfig read_train_config(const std::string& file) {
    CLI::App app("", "train");
    TrainCommand command;
    add_options(app, command);
    app.parse(std::vector<std::string>{file, "--config"});  // CLI11 takes them from the back
    command.file.run(app, [&] {
        command.config.validate();
        return 0;
    });
    return command.config;
}

Action add_train(CLI::App& app) {
    auto command = std::make_shared<TrainCommand>();
    add_options(app, *command);
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
