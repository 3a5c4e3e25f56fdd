#include "diffusion/training/checkpoint.h"

#include <cmath>
#include <utility>

#include "core/choices.h"
#include "core/io/atomic_file.h"
#include "core/io/input_file.h"
#include "core/io/text_file.h"
#include "nn/state.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

namespace {

constexpr const char* choices_file = "kernels.json";

void require_finite(const char* what, const Tensor& values, std::int64_t step) {
    double sum = 0;  // 0 * value is NaN if the value is NaN or infinite
    for (const float value : values.to_vector<float>()) sum += 0.0 * static_cast<double>(value);
    if (std::isnan(sum))
        throw Diverged(fmt::format("training diverged: the {} are not finite after step {}", what, step));
}

/// Makes `name` another name of `file`, in place of what it named: by a hard link, or by a copy if the file system has no links.
void replace_by_link(const fs::path& file, const fs::path& name) {
    const fs::path link = fmt::format("{}.tmp", name.string());
    std::error_code error, ignored;
    fs::remove(link, ignored);
    fs::create_hard_link(file, link, error);
    if (error) {
        const FileContent content(file, std::filesystem::file_size(file));
        write_file_atomically(name, content.bytes());
    } else {
        rename_durably(link, name);
        fs::remove(link, ignored);  // a rename between two names of one file does nothing
    }
}

struct Part {
    const char* file;
    const char* what;
    Tensor values;
};

}  // namespace

void Checkpoint::write(const fs::path& folder, const TrainerState& state) const {
    for (const Part& part : {Part{"weights", "weights", parameters_.values()},
                             {"ema", "averaged weights", ema_.average()},
                             {"adam_m", "first moments", adam_.m()},
                             {"adam_v", "second moments", adam_.v()}}) {
        const Tensor host = part.values.to(Device::cpu());
        require_finite(part.what, host, state.step);
        nn::save_tensors(folder / fmt::format("{}.safetensors", part.file), parameters_.named_views(host));
    }
    if (const VariantMap choices = variant_choices(parameters_.values().device()); !choices.empty())
        write_file_atomically(folder / choices_file, choices_to_json(choices));
    write_file_atomically(folder / "state.json", state.to_json());
}

void Checkpoint::save(const Run& run, TrainerState state, std::int64_t keep) const {
    state.adam_steps = adam_.steps();
    state.ema_updates = ema_.updates();
    const fs::path checkpoint = run.checkpoint(state.step);
    remove_abandoned(run.trainer());  // a full disk may need the space
    if (!fs::exists(checkpoint)) {    // it exists, with the same bits, after a resume that had no step left
        std::error_code ignored;
        fs::create_directory(run.trainer(), ignored);  // but not the run, which may have been moved
        AtomicFolder folder(checkpoint);
        write(folder.path(), state);
        folder.commit();
    }
    replace_by_link(checkpoint / "ema.safetensors", run.unet_weights());
    run.keep_latest_checkpoints(keep);
}

TrainerState Checkpoint::load(const fs::path& folder, const std::array<std::int64_t, 4>& dataset,
                              ImageCount images) {
    const fs::path file = folder / "state.json";
    TrainerState state = TrainerState::from_json(read_json_text(file), file.string());
    if (const auto named = step_of_checkpoint(folder))
        require(state.step == *named, "{}: \"step\" is {}, the folder's name says {}", file.string(),
                state.step, *named);
    const bool same = std::equal(dataset.begin() + (images == ImageCount::any ? 1 : 0), dataset.end(),
                                 state.dataset.begin() + (images == ImageCount::any ? 1 : 0));
    require(same,
            "{}: trained on a data set of size [{}], it has [{}] now ([images, height, width, channels])",
            file.string(), fmt::join(state.dataset, ","), fmt::join(dataset, ","));
    std::vector<std::pair<Tensor, Tensor>> read;
    for (const Part& part : {Part{"weights", "", parameters_.values()},
                             {"ema", "", ema_.average()},
                             {"adam_m", "", adam_.m()},
                             {"adam_v", "", adam_.v()}}) {
        const Tensor host = Tensor::zeros(part.values.shape());
        nn::load_tensors(folder / fmt::format("{}.safetensors", part.file), parameters_.named_views(host));
        read.emplace_back(part.values, host);
    }
    const Device device = parameters_.values().device();
    std::error_code ignored;
    if (const fs::path choices = folder / choices_file; device.is_cuda() && fs::exists(choices, ignored))
        set_variant_choices(device, choices_from_json(read_json_text(choices), choices.string()));
    for (auto& [values, host] : read) values.copy_(host);
    parameters_.refresh_compute_values();
    adam_.set_steps(state.adam_steps);
    ema_.set_updates(state.ema_updates);
    return state;
}

}  // namespace ito::diffusion
