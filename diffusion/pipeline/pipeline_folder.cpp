#include "diffusion/pipeline/pipeline_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/json_depth.h"
#include "core/io/text_file.h"
#include "diffusion/pipeline/model_index.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

namespace {

constexpr const char* network_config = "config.json";
constexpr const char* scheduler_config = "scheduler_config.json";

/// A path that ends in the folder's own name, for "x/" and "." too.
fs::path full_path(const fs::path& folder) {
    const fs::path path = fs::absolute(folder).lexically_normal();
    return path.has_filename() ? path : path.parent_path();
}

/// False for the config.json of a training: a run has it where a network alone has its own.
bool is_network_config(const fs::path& file) {
    if (!present(file)) return false;
    const std::string text = read_text(file);
    require_shallow_json(text, file.string());
    const auto json = nlohmann::json::parse(text, nullptr, false);
    // A damaged file counts as one: its reader refuses it with a better message than "missing".
    return !json.is_object() || json.contains("_class_name") || json.contains("block_out_channels");
}

bool holds_model(const fs::path& folder) {
    return present(folder / "model_index.json") || present(folder / "unet" / network_config) ||
           present(folder / "unet_ema" / network_config) || present(folder / "snapshots");
}

/// "org/name" of the cache's models--org--name; empty for other folders.
std::string hub_name(const fs::path& cached) {
    const std::string filename = full_path(cached).filename().string();
    constexpr std::string_view prefix = "models--";
    if (!filename.starts_with(prefix)) return {};
    const std::string_view name = std::string_view(filename).substr(prefix.size());
    const auto dashes = name.find("--");
    return dashes == std::string_view::npos
               ? std::string(name)
               : fmt::format("{}/{}", name.substr(0, dashes), name.substr(dashes + 2));
}

std::string hub_remedy(const fs::path& cached) {
    const std::string name = hub_name(cached);
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) ||
               std::string_view("-_./").find(static_cast<char>(c)) != std::string_view::npos;
    });
    return plain ? fmt::format("complete the download with: hf download {}", name)
                 : "download the model again";
}

fs::path find_snapshot(const fs::path& cached, PipelineFolder& found) {
    found.remedy = hub_remedy(cached);
    const fs::path snapshots = cached / "snapshots", main = cached / "refs" / "main";
    std::vector<std::string> names;
    for (const std::string& name : names_in(snapshots))
        if (name.ends_with('/')) names.push_back(name.substr(0, name.size() - 1));
    require(!names.empty(), "{}: holds no snapshot; {}", snapshots.string(), found.remedy);
    std::string name = names[0];
    if (present(main)) {
        name = read_text(main);
        while (!name.empty() && std::isspace(static_cast<unsigned char>(name.back()))) name.pop_back();
        require(std::find(names.begin(), names.end(), name) != names.end(),
                "{}: names the snapshot \"{}\", and there are: {}; {}", main.string(), excerpt(name),
                listed(names), found.remedy);
    } else {
        require(names.size() == 1, "{}: has several snapshots ({}) and no refs/main; name one, such as {}",
                cached.string(), listed(names), (snapshots / name).string());
    }
    found.notes.push_back(fmt::format("model: snapshot {} of the Hub's cache", excerpt(name)));
    return snapshots / name;
}

/// Chooses unet or unet_ema; at least one exists.
void choose_network(PipelineFolder& found, WeightSet weights) {
    const fs::path plain = found.root / "unet", average = found.root / "unet_ema";
    const bool has_plain = present(plain / network_config), has_average = present(average / network_config);
    found.chosen = has_average;
    require(has_plain || weights == WeightSet::ema,
            "{}: has unet_ema, the averaged weights, and no unet/config.json; use `weights` ema",
            found.root.string());
    found.unet = has_average && weights == WeightSet::ema ? average : plain;
    if (has_plain && has_average)
        found.notes.push_back(weights == WeightSet::ema ? "weights: of unet_ema, the average, not of unet"
                                                        : "weights: of unet, not of unet_ema, their average");
}

/// Looks for the schedule one folder up: the network may be part of a pipeline, or in a checkpoint of a training.
void look_for_scheduler_above(PipelineFolder& found) {
    const fs::path above = full_path(found.root).parent_path(), scheduler = above / "scheduler";
    if (found.model_index || present(found.scheduler / scheduler_config) ||
        !present(scheduler / scheduler_config))
        return;
    found.scheduler = scheduler;
    if (present(above / "model_index.json")) found.model_index = above / "model_index.json";
    found.notes.push_back(fmt::format("schedule: of {}", (scheduler / scheduler_config).string()));
}

[[noreturn]] void fail_missing(const PipelineFolder& found) {
    const fs::path& root = found.root;
    // The index says what kind of pipeline this is.
    if (found.model_index) {
        const std::string file = found.model_index->string();
        require_pixel_pipeline(parse_model_index(read_text(file), file), file);
    }
    std::vector<std::string> models;
    for (const std::string& name : names_in(root))
        if (name.ends_with('/') && holds_model(root / name))
            models.push_back(name.substr(0, name.size() - 1));
    if (!models.empty() && !found.model_index) {
        // checkpoint-1000 comes after checkpoint-500.
        std::stable_sort(models.begin(), models.end(),
                         [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
        fail("{}: holds no model, but folders that do: {}; name one of them, such as {}", root.string(),
             listed(models), (root / models.back()).string());
    }
    const bool folder = present(root / "unet");
    const auto names = names_in(folder ? root / "unet" : root);
    fail("{}: unet/config.json is missing, so this is neither a run nor a diffusers pipeline; {}: {}; {}",
         root.string(), folder ? "in unet there are" : "there are",
         names.empty() ? "no files" : listed(names),
         found.remedy.empty() ? "give a folder of ito train or of save_pretrained" : found.remedy);
}

}  // namespace

WeightSet parse_weight_set(const std::string& text) {
    if (text == "ema") return WeightSet::ema;
    if (text == "raw") return WeightSet::raw;
    fail("`weights` {}: expected ema or raw", text);
}

std::vector<std::string> names_in(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
        std::error_code ignored;
        const fs::file_status status = entry->status(ignored);
        names.push_back(fmt::format("{}{}", entry->path().filename().string(),
                                    fs::is_directory(status) ? "/"
                                    : fs::exists(status)     ? ""
                                                             : " (a link to nothing)"));
    }
    std::sort(names.begin(), names.end());
    if (error) names.push_back(fmt::format("(the folder cannot be read: {})", error.message()));
    return names;
}

PipelineFolder find_pipeline(const fs::path& folder, WeightSet weights) {
    constexpr const char* expected = "expected a run of ito train or a saved diffusers pipeline";
    std::error_code error;
    const fs::file_status status = fs::status(folder, error);
    require(status.type() != fs::file_type::not_found, "{}: no such folder; {}", folder.string(), expected);
    require(!error, "{}: {}; {}", folder.string(), error.message(), expected);
    require(fs::is_directory(status), "{}: is a file; give its folder: {}", folder.string(), expected);
    PipelineFolder found;
    found.root = present(folder / "snapshots") ? find_snapshot(folder, found) : folder;
    if (const fs::path above = full_path(folder).parent_path(); above.filename() == "snapshots")
        found.remedy = hub_remedy(above.parent_path());
    std::error_code ignored;
    require(
        !fs::is_symlink(found.root / "model_index.json", ignored) || present(found.root / "model_index.json"),
        "{}: is a link to nothing, and says what kind of pipeline this is; {}",
        (found.root / "model_index.json").string(),
        found.remedy.empty() ? "copy the folder with what its links lead to" : found.remedy);
    if (present(found.root / "model_index.json")) found.model_index = found.root / "model_index.json";

    if (present(found.root / "unet" / network_config) || present(found.root / "unet_ema" / network_config)) {
        choose_network(found, weights);
        found.scheduler = found.root / "scheduler";
    } else if (is_network_config(found.root / network_config)) {
        found.unet = found.scheduler = found.root;
    } else {
        fail_missing(found);
    }
    look_for_scheduler_above(found);
    return found;
}

}  // namespace ito::diffusion
