// Which file in the folder of a network holds its weights.

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "diffusion/pipeline/pipeline_folder.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view usual = "diffusion_pytorch_model";

/// A file of weights, or the index of several.
struct Candidate {
    std::string file, stem, variant;  ///< "diffusion_pytorch_model.fp16.safetensors" is of the variant "fp16"
    bool index = false;

    bool is_usual(std::string_view of) const { return stem == usual && variant == of; }
    bool same_save(const Candidate& other) const { return stem == other.stem && variant == other.variant; }
};

/// "...-00001-of-00002...": one of several files, which only their index says how to read.
bool is_shard(std::string_view name) {
    const auto of = name.find("-of-");
    const auto digit = [&](std::size_t at) { return at < name.size() && name[at] >= '0' && name[at] <= '9'; };
    return of != std::string_view::npos && of > 0 && digit(of - 1) && digit(of + 4);
}

/// None if the name is not one of weights.
std::optional<Candidate> candidate_of(const std::string& name) {
    Candidate candidate{.file = name, .stem = name.substr(0, name.find('.')), .variant = {}};
    bool weights = false, json = false;
    for (std::size_t at = candidate.stem.size(); at < name.size();) {
        const std::size_t end = std::min(name.find('.', at + 1), name.size());
        const std::string part = name.substr(at + 1, end - at - 1);
        at = end;
        weights |= part == "safetensors";
        candidate.index |= part == "index";
        json = part == "json";
        if (part != "safetensors" && part != "index" && part != "json")
            candidate.variant += (candidate.variant.empty() ? "" : ".") + part;
    }
    const bool file = name.ends_with(".safetensors") && !candidate.index && !is_shard(name);
    if (!file && !(weights && candidate.index && json)) return {};
    return candidate;
}

/// Of a save in one file and one in shards, the newer. (diffusers never removes the older one, and reads the shards.)
Candidate newer_of(const fs::path& unet, const Candidate& a, const Candidate& b,
                   std::vector<std::string>& notes) {
    const Candidate &whole = a.index ? b : a, &index = a.index ? a : b;
    const auto age = fs::last_write_time(unet / index.file) - fs::last_write_time(unet / whole.file);
    // Archives store times to two seconds. Behind a link the time is that of the download.
    constexpr std::chrono::seconds smallest(2);
    require((age >= smallest || age <= -smallest) && !fs::is_symlink(unet / whole.file),
            "{}: has {} and the shards of {}, neither of which is clearly newer; remove the one that is not "
            "the model",
            unet.string(), whole.file, index.file);
    const Candidate& newer = age > age.zero() ? index : whole;
    notes.push_back(fmt::format("weights: {}{}, newer than {}{}", newer.index ? "the shards of " : "",
                                newer.file, newer.index ? whole.file : "the shards of " + index.file,
                                newer.index ? "" : " (which diffusers would read)"));
    return newer;
}

[[noreturn]] void fail_missing(const fs::path& unet, const std::string& remedy) {
    const auto names = names_in(unet);
    std::string what = remedy;
    for (const std::string& name : names) {
        if (!what.empty()) break;
        if (name.ends_with(".bin"))
            what = fmt::format("save the model of {} again with safe_serialization=True", name);
        if (is_shard(name) && name.ends_with(".safetensors")) what = "get the shards' .index.json too";
    }
    if (what.empty()) what = "download or save the model again";
    fail("{}: the weights are missing; there are: {}; {}",
         (unet / fmt::format("{}.safetensors", usual)).string(), names.empty() ? "no files" : listed(names),
         what);
}

}  // namespace

fs::path find_weights(const fs::path& unet, const std::string& variant, std::vector<std::string>& notes,
                      const std::string& remedy) {
    std::vector<Candidate> all, fitting;
    for (const std::string& name : names_in(unet))
        if (const auto candidate = candidate_of(name)) all.push_back(*candidate);
    const auto is_wanted = [&](const Candidate& candidate) { return candidate.is_usual(variant); };
    std::copy_if(all.begin(), all.end(), std::back_inserter(fitting), is_wanted);
    if (fitting.size() > 1) return unet / newer_of(unet, fitting[0], fitting[1], notes).file;
    if (fitting.size() == 1) return unet / fitting[0].file;

    std::vector<std::string> names;
    std::string other;
    for (const Candidate& candidate : all) {
        names.push_back(candidate.file);
        if (other.empty() && candidate.stem == usual) other = candidate.variant;
    }
    require(variant.empty() || all.empty(), "`variant` {}: {} has no such weights; there are: {}",
            excerpt(variant), unet.string(), listed(names));
    if (all.empty()) fail_missing(unet, remedy);
    require(std::all_of(all.begin(), all.end(), [&](const Candidate& c) { return c.same_save(all[0]); }),
            "{}: has several weights and none is {}.safetensors: {}; {}", unet.string(), usual, listed(names),
            other.empty() ? "rename the one that is the model"
                          : fmt::format("choose one, such as `variant` {}", other));
    if (all.size() > 1) return unet / newer_of(unet, all[0], all[1], notes).file;
    notes.push_back(fmt::format("weights: {}, the only ones there", all[0].file));
    return unet / all[0].file;
}

}  // namespace ito::diffusion
