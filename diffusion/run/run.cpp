#include "diffusion/run/run.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "core/error.h"
#include "core/io/atomic_file.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

namespace {

/// Calls visit(path, step) for every complete checkpoint. Only complete ones have their final name.
template <class Visit>
void for_each_checkpoint(const fs::path& trainer, Visit&& visit) {
    std::error_code error;
    std::vector<fs::path> entries;
    for (const auto& entry : fs::directory_iterator(trainer, error)) entries.push_back(entry.path());
    for (const auto& path : entries) {
        const auto step = step_of_checkpoint(path);
        if (step && fs::is_directory(path, error)) visit(path, *step);
    }
}

}  // namespace

std::optional<std::int64_t> step_of_checkpoint(const fs::path& checkpoint) {
    const std::string filename = checkpoint.filename().string();
    std::string_view name = filename;
    constexpr std::string_view prefix = "step-";
    if (!name.starts_with(prefix)) return {};
    name.remove_prefix(prefix.size());
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
    if (error != std::errc() || end != name.data() + name.size() || step < 0) return {};
    return step;
}

/// What a training writes before it has trained, besides an empty log.
std::set<fs::path> Run::first_files() const {
    return {config(),
            config_toml(),
            left_out(),
            root_ / "model_index.json",
            root_ / "unet" / "config.json",
            root_ / "scheduler" / "scheduler_config.json"};
}

std::set<fs::path> Run::first_folders() const {
    return {root_ / "unet", root_ / "scheduler", samples(), trainer(), tensorboard()};
}

bool Run::vacant() const {
    std::error_code error;
    if (!fs::exists(root_, error)) return !error;
    if (!fs::is_directory(root_, error)) return false;
    // A run that was never saved and has logged nothing loses nothing if its command begins again.
    const auto files = first_files(), folders = first_folders();
    for (fs::recursive_directory_iterator entry(root_, error), end; !error && entry != end;
         entry.increment(error)) {
        const fs::path path = entry->path();
        std::error_code ignored;
        if (files.contains(path) || folders.contains(path) || path == lock() || path.extension() == ".tmp" ||
            path.parent_path() == tensorboard() || path.parent_path().extension() == ".tmp")
            continue;
        if (path != metrics() || fs::file_size(path, ignored) > 0) return false;
    }
    return !error;
}

fs::path Run::checkpoint(std::int64_t steps) const {
    return trainer() / fmt::format("step-{:08}", steps);
}

std::optional<fs::path> Run::latest_checkpoint() const {
    std::optional<fs::path> latest;
    std::int64_t highest = -1;
    for_each_checkpoint(trainer(), [&](const fs::path& path, std::int64_t step) {
        if (step <= highest) return;
        highest = step;
        latest = path;
    });
    return latest;
}

std::vector<std::int64_t> Run::checkpoint_steps() const {
    std::vector<std::int64_t> steps;
    for_each_checkpoint(trainer(), [&](const fs::path&, std::int64_t step) { steps.push_back(step); });
    std::sort(steps.begin(), steps.end());
    return steps;
}

void Run::keep_latest_checkpoints(std::int64_t count) const {
    std::vector<std::pair<std::int64_t, fs::path>> checkpoints;
    for_each_checkpoint(
        trainer(), [&](const fs::path& path, std::int64_t step) { checkpoints.emplace_back(step, path); });
    std::sort(checkpoints.rbegin(), checkpoints.rend());
    std::error_code ignored;
    for (auto i = static_cast<std::size_t>(count); i < checkpoints.size(); ++i)
        fs::remove_all(checkpoints[i].second, ignored);
}

void Run::discard() const {
    require(!latest_checkpoint(), "{}: has a checkpoint, and is not discarded", root_.string());
    std::error_code ignored;
    for (const fs::path& path : first_files()) fs::remove(path, ignored);
    fs::remove(metrics(), ignored);
    for (const fs::path& folder : first_folders()) fs::remove_all(folder, ignored);
}

void Run::remove_abandoned_files() const {
    for (const fs::path& folder : {root_, root_ / "unet", root_ / "scheduler", samples(), trainer()})
        remove_abandoned(folder);
}

}  // namespace ito::diffusion
