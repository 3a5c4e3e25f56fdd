#include "apps/left_out.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/json_depth.h"
#include "core/io/text_file.h"

namespace ito::apps {
namespace {

/// JSON is UTF-8: other bytes of a name are replaced.
std::string to_json(const std::vector<std::string>& files) {
    return nlohmann::json(files).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

void write_left_out(const diffusion::Run& run, const std::vector<std::string>& files) {
    write_file_atomically(run.left_out(), to_json(files));
}

void check_left_out(const diffusion::Run& run, const std::filesystem::path& folder,
                    const std::vector<std::string>& files) {
    if (!std::filesystem::exists(run.left_out())) return;
    const std::string file = run.left_out().string(), text = read_json_text(run.left_out());
    require_shallow_json(text, file);
    const auto saved = nlohmann::json::parse(text, nullptr, false),
               now = nlohmann::json::parse(to_json(files));
    require(saved.is_array() &&
                std::all_of(saved.begin(), saved.end(), [](auto& name) { return name.is_string(); }),
            "{}: not a list of file names", file);
    const auto has = [](const nlohmann::json& list, const nlohmann::json& name) {
        return std::find(list.begin(), list.end(), name) != list.end();
    };
    for (const auto& name : now)
        require(has(saved, name),
                "{}: cannot be read, and is not among the files that the training began without ({}); "
                "restore it, or remove it if it is new; --data-changed goes on without it",
                (folder / excerpt(name.get<std::string>())).string(), file);
    for (const auto& name : saved)
        require(has(now, name) || !std::filesystem::exists(folder / name.get<std::string>()),
                "{}: is among the files that the training began without ({}), and now is not broken; remove "
                "it, or --data-changed goes on with it",
                (folder / excerpt(name.get<std::string>())).string(), file);
}

}  // namespace ito::apps
