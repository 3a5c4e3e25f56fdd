#include "diffusion/run/metrics.h"

#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/text_file.h"

namespace ito::diffusion {
namespace {

using Json = nlohmann::ordered_json;
using Quarters = decltype(MetricsLine::loss_by_timestep);

/// Calls visit(name, value) for each field, in the order of the file.
template <class Line, class Visit>
void for_each_field(Line& line, Visit&& visit) {
    visit("step", line.step);
    visit("loss", line.loss);
    visit("loss_by_timestep", line.loss_by_timestep);
    visit("grad_norm", line.grad_norm);
    visit("lr", line.lr);
    visit("images_per_second", line.images_per_second);
    visit("seconds", line.seconds);
}

Json json_of(std::int64_t value) {
    return value;
}
Json json_of(const std::optional<double>& value) {
    return value ? Json(*value) : Json();
}
Json json_of(const Quarters& values) {
    Json json = Json::array();
    for (const auto& value : values) json.push_back(json_of(value));
    return json;
}

void read(const Json& json, std::int64_t& value) {
    value = json.get<std::int64_t>();
}
void read(const Json& json, std::optional<double>& value) {
    if (json.is_number()) value = json.get<double>();
}
void read(const Json& json, Quarters& values) {
    if (!json.is_array() || json.size() != values.size()) return;
    for (std::size_t q = 0; q < values.size(); ++q) read(json[q], values[q]);
}

/// Calls visit(text, line) for each line that is whole.
template <class Visit>
void for_each_line(const std::filesystem::path& path, Visit&& visit) {
    std::istringstream lines(std::filesystem::exists(path) ? read_text(path) : "");
    for (std::string text; std::getline(lines, text);) {
        const Json json = Json::parse(text, nullptr, false);
        if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
        MetricsLine line;
        for_each_field(line, [&](const char* name, auto& value) {
            if (const auto found = json.find(name); found != json.end()) read(*found, value);
        });
        visit(text, line);
    }
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path, std::int64_t steps_done) : path_(path) {
    std::string kept;
    for_each_line(path, [&](const std::string& text, const MetricsLine& line) {
        if (line.step > steps_done) return;
        if (line.seconds) seconds_before_ = *line.seconds;
        if (line.step % every == 0) kept += text + "\n";
    });
    if (std::filesystem::exists(path)) write_file_atomically(path, kept);
    file_.open(path, std::ios::app);
    require(file_.is_open(), "{}: cannot be opened for writing", path.string());
}

void MetricsLog::write(const MetricsLine& line) {
    Json json;
    for_each_field(line, [&](const char* name, const auto& value) { json[name] = json_of(value); });
    file_ << json.dump() << "\n" << std::flush;
    require(file_.good(), "{}: cannot be written; is the disk full?", path_.string());
}

std::vector<MetricsLine> read_metrics(const std::filesystem::path& path) {
    std::vector<MetricsLine> lines;
    double step = 0, covered = 0, covered_before = 0;  // steps of the last two lines
    for_each_line(path, [&](const std::string&, const MetricsLine& line) {
        lines.push_back(line);
        const double now = static_cast<double>(line.step);
        covered_before = std::exchange(covered, now - std::exchange(step, now));
    });
    if (2 * covered < covered_before) {
        const MetricsLine last = lines.back();
        lines.back() = {.step = last.step, .lr = last.lr, .seconds = last.seconds};
    }
    return lines;
}

}  // namespace ito::diffusion
