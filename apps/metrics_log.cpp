#include "apps/metrics_log.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "diffusion/run/files.h"

namespace ito::apps {

MetricsLog::MetricsLog(const std::filesystem::path& path, std::int64_t steps_done) : path_(path) {
    if (std::filesystem::exists(path)) {
        std::istringstream lines(diffusion::read_text(path));
        std::string kept;
        for (std::string line; std::getline(lines, line);) {
            const auto json = nlohmann::json::parse(line, nullptr, false);
            if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
            const auto step = json["step"].get<std::int64_t>();
            if (step > steps_done) continue;
            if (json.contains("seconds") && json["seconds"].is_number()) seconds_before_ = json["seconds"];
            if (step % every == 0) kept += line + "\n";
        }
        write_file_atomically(path, kept);
    }
    file_.open(path, std::ios::app);
    require(file_.is_open(), "{}: cannot be opened for writing", path.string());
}

void MetricsLog::write(const nlohmann::ordered_json& line) {
    file_ << line.dump() << "\n" << std::flush;
    require(file_.good(), "{}: cannot be written; is the disk full?", path_.string());
}

}  // namespace ito::apps
