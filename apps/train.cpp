// ito train: a model from a data set, or on from where a run stopped.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/config_file.h"
#include "apps/init_from.h"
#include "apps/left_out.h"
#include "apps/machine.h"
#include "apps/memory_advice.h"
#include "apps/terminal.h"
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

/// What a resumed training may change.
constexpr std::string_view free_options[] = {"--steps",        "--minutes",    "--device", "--threads",
                                             "--sample-every", "--save-every", "--keep",   "--data-dir",
                                             "--tensorboard",  "--precision"};

struct TrainCommand {
    TrainConfig config;
    std::string out, resume;
    bool data_changed = false;
    bool anomaly = false, dry_run = false, no_graph = false, no_autotune = false;
    bool begun = false;  ///< the folder of the run was made by this command
    StepTrace trace;
    ConfigFile file;
    CLI::App* app = nullptr;
    std::optional<RunLock> lock;
    std::vector<std::string> notes;     ///< what was chosen of data and weights, a line each
    std::vector<std::string> left_out;  ///< of the data set

    int operator()();

  private:
    int run_command();
    int train(const Run& run, const ModelConfig& model, std::shared_ptr<nn::UNet> weights, Dataset&& data,
              const TrainerOptions& options);
    [[noreturn]] void end_out_of_memory(const Run& run, const OutOfMemory& error, const Fitting& fits) const;
    bool given(const char* option) const { return app->count(option) > 0; }
    Run new_run();
    Run open_run();
    void begin(const Run& run);
    void require_room(const Run& run, Trainer& trainer) const;
    void write_config(const Run& run) const;
    void continue_from(const Run& run, Trainer& trainer);
};

Run TrainCommand::new_run() {
    require(!out.empty() || dry_run, "--out is missing: the folder that the run is written to");
    if (config.steps == 0 && config.minutes == 0) config.steps = default_steps;
    const Run run(out);
    require(!run.exists() || run.vacant(),
            "--out {}: holds a run already; continue it with --resume {}, or choose another folder", out,
            shell_word(out));
    require(run.vacant(), "--out {}: exists and is not an empty folder; choose another", out);
    if (!out.empty()) {
        const std::string why = why_no_folder(run.root());
        require(why.empty(), "--out {}: the folder cannot be created: {}; choose another", out, why);
    }
    require(out.empty() || is_dataset_name(config.data) || !lies_in(out, config.data) ||
                !lies_in(out, scan_folder(config.data).folder),  // beside the split that is taken it may
            "--out {}: lies in the folder of --data, so that its samples would become data; choose another",
            out);
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
    const auto fixed = nlohmann::json::parse(saved.to_json()),
               wanted = nlohmann::json::parse(config.to_json());
    for (const auto& [field, value] : fixed.items()) {
        const std::string option = option_of(field);
        if (std::find(std::begin(free_options), std::end(free_options), option) != std::end(free_options))
            continue;
        // Images may have moved. That they are as many and as large is checked with the checkpoint.
        if (field == "data" && !is_dataset_name(saved.data) && !is_dataset_name(config.data)) continue;
        require(!given(option.c_str()) || wanted.at(field) == value,
                "{} {}: the run was trained with {}; a resumed training keeps it", option,
                wanted.at(field).dump(), value.dump());
    }
    if (given("--data")) saved.data = config.data;
    if (given("--steps")) saved.steps = config.steps;
    // A time limit holds for one command. A run that has no other end keeps it until its steps are planned.
    if (given("--minutes") || saved.steps > 0) saved.minutes = config.minutes;
    if (given("--device")) saved.device = config.device;
    if (given("--threads")) saved.threads = config.threads;
    if (given("--precision")) saved.precision = config.precision;
    if (given("--sample-every")) saved.sample_every = config.sample_every;
    if (given("--save-every")) saved.save_every = config.save_every;
    if (given("--keep")) saved.keep = config.keep;
    if (given("--data-dir")) saved.data_dir = config.data_dir;
    require(given("--data") || is_dataset_name(saved.data) || fs::is_directory(saved.data),
            "--data {}: is no folder, but the images of the run were there; give --data with their new place",
            saved.data);
    if (given("--tensorboard")) saved.tensorboard = config.tensorboard;
    config = saved;
    return run;
}

void TrainCommand::continue_from(const Run& run, Trainer& trainer) {
    if (const auto checkpoint = run.latest_checkpoint()) {
        if (config.skip_broken && !data_changed)
            check_left_out(run, scan_folder(config.data).folder, left_out);
        const fs::path file = *checkpoint / "state.json";
        const std::int64_t then = TrainerState::from_json(read_json_text(file), file.string()).dataset[0],
                           now = trainer.images().count();
        require(then == now || data_changed,
                "--resume {0}: was trained on {1}, and there are {2} now; --data-changed goes on with these, "
                "or begin "
                "anew with its weights: {3} train --init-from {0} --data {4}{5} --out NEW",
                shell_word(resume), counted(then, "image"), now, program(), shell_word(config.data),
                config.data_dir.empty() ? "" : " --data-dir " + shell_word(config.data_dir));
        if (then != now) fmt::print("on with {}; {} before\n", counted(now, "image"), counted(then, "image"));
        trainer.load(*checkpoint, ImageCount::any);
    } else {
        // A training that never saved begins again. One that did would lose its weights by that.
        require(!fs::exists(run.unet_weights()),
                "--resume {}: the checkpoint is gone ({}/step-*), and a training from the beginning would "
                "replace "
                "the run's weights; choose another folder with --out",
                resume, run.trainer().string());
    }
    if (config.steps > 0) {
        trainer.set_total_steps(config.steps);
    } else if (trainer.total_steps() > 0) {
        config.steps = trainer.total_steps();  // as planned from --minutes
        if (!given("--minutes")) config.minutes = 0;
    }
    // Without a report it was killed between its last checkpoint and its end, which is then made up for.
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

/// Both forms of the options. config.json comes first: from there on the folder is a run.
void TrainCommand::write_config(const Run& run) const {
    write_file_atomically(run.config(), config.to_json());
    write_file_atomically(
        run.config_toml(),
        fmt::format(
            "# Every option of this run. The same training again: ito train --config {} --out NEW\n{}",
            run.config_toml().filename().string(), to_toml(config.to_json())));
}

int TrainCommand::operator()() {
    return file.run(*app, [this] { return run_command(); });
}

int TrainCommand::run_command() {
    require(given("--trace") || !given("--trace-step"), "--trace-step: is about --trace; give that too");
    require(!given("--steps") || config.steps > 0, "--steps {}: expected 1 or more", config.steps);
    config.validate();
    // Kept as an absolute path: the run can be continued from another folder.
    if (!is_dataset_name(config.data) && fs::is_directory(config.data))
        config.data = absolute_path(config.data);
    if (!config.data_dir.empty()) config.data_dir = absolute_path(config.data_dir);
    if (!config.init_from.empty()) config.init_from = absolute_path(config.init_from);
    require(
        (config.weights == "ema" && config.variant.empty()) || !config.init_from.empty() || given("--resume"),
        "{}: is about the weights to begin with; give --init-from too",
        config.variant.empty() ? "--weights" : "--variant");
    require(!data_changed || given("--resume"), "--data-changed: is about --resume");
    const Run run = given("--resume") ? open_run() : new_run();
    const Execution execution{config.device, config.threads, config.precision,
                              no_graph,      no_autotune,    config.weight_gradients};
    const Computation computation = execution.apply();

    auto start = open_beginning(
        config, [this](const std::string& option) { return given(option.c_str()); },
        given("--resume") ? &run : nullptr);
    Dataset data = load_dataset(config.data, {.data_dir = config.data_dir,
                                              .image_size = config.image_size,
                                              .skip_broken = config.skip_broken,
                                              .resumed = given("--resume")});
    if (start) notes = start->notes;
    notes.insert(notes.end(), data.notes.begin(), data.notes.end());
    left_out = data.left_out;
    if (start) data = with_channels(std::move(data), start->model.unet.in_channels);
    const ModelConfig model =
        start ? start->model_for(data.height, data.width)
              : ModelConfig{config.unet(data.height, data.width, data.channels), config.scheduler()};
    const std::size_t data_bytes = data.images.size();
    // What is traced or searched for NaN is launched by the host, op by op.
    const TrainerOptions options{.computation = computation,
                                 .graph = !(no_graph || anomaly || given("--trace"))};
    try {
        return train(run, model, start ? std::move(start->weights) : nullptr, std::move(data), options);
    } catch (const OutOfMemory& error) {
        end_out_of_memory(run, error, training_that_fits(config, model, options, data_bytes));
    }
}

/// One line with what would fit. A run that has no checkpoint makes room for another try.
void TrainCommand::end_out_of_memory(const Run& run, const OutOfMemory& error, const Fitting& fits) const {
    const auto checkpoint = run.latest_checkpoint();
    if (!checkpoint && begun) run.discard();
    std::string advice;
    if (given("--resume")) {
        advice =
            "a resumed training keeps its batch and image size: end other programs, or resume on another "
            "device";
    } else if (fits.batch >= config.batch) {
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

/// A training that could not be saved is refused before it begins.
void TrainCommand::require_room(const Run& run, Trainer& trainer) const {
    constexpr double mib = 1 << 20;
    // Weights, their average and two moments, in float32.
    const double checkpoint = 16.0 * static_cast<double>(trainer.model().parameter_count());
    const auto there = static_cast<std::int64_t>(run.checkpoint_steps().size());
    const std::int64_t left = trainer.total_steps() - trainer.steps_done();
    const std::int64_t saves =
        trainer.total_steps() > 0 ? (left + config.save_every - 1) / config.save_every : config.keep + 1;
    // The oldest goes when the next is complete.
    const std::int64_t more =
        std::clamp<std::int64_t>(config.keep + 1 - there, 1, std::max<std::int64_t>(saves, 1));
    std::error_code error;
    const fs::space_info disk = fs::space(run.root(), error);
    const auto available = static_cast<double>(disk.available);
    require(
        error || disk.capacity == 0 || static_cast<double>(more) * checkpoint <= available,
        "{}: the disk has {:.1f} MiB left, and {} of {:.1f} MiB each will be there at a time; choose another "
        "disk{}",
        run.root().string(), available / mib, counted(more, "checkpoint"), checkpoint / mib,
        config.keep > 1 ? ", or a lower --keep" : "");
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
        fmt::print("{}", to_toml(config.to_json()));
        require(std::fflush(stdout) == 0, "--dry-run: standard output cannot be written");
        return 0;
    }
    autograd::set_anomaly_mode(anomaly);
    if (!given("--resume")) begin(run);
    begun = !given("--resume");
    require_room(run, trainer);
    run.remove_abandoned_files();
    write_config(run);
    if (config.skip_broken && (data_changed || !run.latest_checkpoint())) write_left_out(run, left_out);
    make_folder(run.samples());
    make_folder(run.trainer());
    write_pipeline(run.root(), model.unet, model.scheduler);
    catch_interrupts();
    for (const std::string& note : notes) fmt::print("note      {}\n", note);
    return run_training(config, trainer, run, *lock, trace);
}

void add_options(CLI::App& app, TrainCommand& c) {
    auto& o = c.config;
    c.app = &app;
    app.add_option("--data", o.data, "fashion-mnist, mnist, cifar10, or a folder of images")
        ->capture_default_str();
    app.add_option("--data-dir", o.data_dir, "Folder with the files of mnist or cifar10");
    app.add_option("--image-size", o.image_size, "Scale and crop to this side, 0 for as they are")
        ->capture_default_str();
    app.add_flag("--skip-broken", o.skip_broken, "Leave out the files of a folder that cannot be read");
    app.add_flag("--flip", o.flip, "Mirror half of the images left-right");
    app.add_option("--out", c.out, "Run directory to create");
    app.add_option("--resume", c.resume, "Run directory to continue");
    app.add_flag("--data-changed", c.data_changed, "With --resume: go on with another number of images");
    app.add_option("--init-from", o.init_from,
                   "Run or pipeline whose network, schedule and weights to begin with");
    app.add_option("--weights", o.weights, "Of --init-from: ema, or raw")->capture_default_str();
    app.add_option("--variant", o.variant, "Of --init-from's weights that diffusers saved, such as fp16");
    app.add_option("--steps", o.steps, "Steps in total, also on resume; with --minutes alone what fits")
        ->default_str(std::to_string(default_steps));
    app.add_option("--minutes", o.minutes, "Stop after so many minutes, 0 for no limit")
        ->capture_default_str();
    app.add_option("--batch", o.batch, "Images of one forward pass")->capture_default_str();
    app.add_option("--grad-accum", o.grad_accum, "Forward passes of one step")->capture_default_str();
    app.add_option("--base-channels", o.base_channels, "Channels of the first level")->capture_default_str();
    app.add_option("--channel-mults", o.channel_mults, "Channels of each level, in base channels")
        ->delimiter(',')
        ->default_str("1,2,2");
    app.add_option("--layers-per-block", o.layers_per_block, "Residual blocks of each level")
        ->capture_default_str();
    app.add_option("--attention-resolutions", o.attention_resolutions,
                   "Sides; default half the image size (14 for 28x28), 0: only the middle")
        ->delimiter(',');
    app.add_option("--heads", o.heads, "Attention heads")->capture_default_str();
    app.add_option("--norm-groups", o.norm_groups,
                   "GroupNorm groups, 0 for one per 4 base channels, at most 32")
        ->capture_default_str();
    app.add_option("--dropout", o.dropout, "Probability in the residual blocks")->capture_default_str();
    app.add_option("--timesteps", o.timesteps, "T, the length of the noise schedule")->capture_default_str();
    app.add_option("--beta-schedule", o.beta_schedule, "linear, or cosine (Nichol & Dhariwal 2021)")
        ->capture_default_str();
    app.add_option("--beta-start", o.beta_start, "First beta of the linear schedule")->capture_default_str();
    app.add_option("--beta-end", o.beta_end, "Last beta of the linear schedule")->capture_default_str();
    app.add_flag("--rescale-betas", o.rescale_betas,
                 "Linear betas times 1000 / T: a short chain ends in noise too");
    app.add_option("--lr", o.lr, "Learning rate (its peak)")->capture_default_str();
    app.add_option("--lr-schedule", o.lr_schedule, "constant, linear or cosine (to 0 at the last step)")
        ->capture_default_str();
    app.add_option("--warmup", o.warmup, "Steps over which the learning rate rises")->capture_default_str();
    app.add_option("--clip", o.clip, "Largest global gradient norm, 0 for no clipping")
        ->capture_default_str();
    app.add_option("--weight-decay", o.weight_decay, "AdamW's; 0 is plain Adam")->capture_default_str();
    app.add_option("--ema", o.ema, "Decay of the weights' moving average")->capture_default_str();
    app.add_option("--seed", o.seed, "Same seed, same bits, for any number of threads")
        ->check(check_seed)
        ->capture_default_str();
    app.add_option("--device", o.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
    app.add_option("--threads", o.threads, "CPU threads, 0 for all; never changes a result")
        ->capture_default_str();
    app.add_option("--precision", o.precision, "auto, float32, tf32 or bfloat16; auto: bfloat16 on CUDA")
        ->capture_default_str();
    app.add_flag("--no-graph", c.no_graph, "On CUDA: launch kernels one by one; the same bits");
    app.add_option("--weight-gradients", o.weight_gradients,
                   "Of convolutions in bfloat16: float32, or bfloat16 (by cuDNN, rounded)")
        ->capture_default_str();
    app.add_flag("--no-autotune", c.no_autotune,
                 "On CUDA: take the first guess of a kernel's variant, untimed");
    app.add_option("--sample-every", o.sample_every, "Steps between sample grids, 0 for one at the end")
        ->capture_default_str();
    app.add_option("--save-every", o.save_every, "Steps between checkpoints")->capture_default_str();
    app.add_option("--keep", o.keep, "Checkpoints that stay, the latest")->capture_default_str();
    app.add_flag("--tensorboard", o.tensorboard, "Also write event files for TensorBoard: RUN/tensorboard");
    app.add_flag("--anomaly", c.anomaly, "Stop at the first NaN or infinity and name its op and layer; slow");
    app.add_flag("--dry-run", c.dry_run, "Check and print what would be trained, and end");
    app.add_option("--trace", c.trace.file, "Timeline of one step, a JSON file that Perfetto opens");
    app.add_option("--trace-step", c.trace.step, "Which step of this command; the first ones are slower")
        ->capture_default_str();
    c.file.add_option(app);
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
