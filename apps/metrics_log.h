#pragma once
// metrics.jsonl of a run: one JSON object a line, each the mean over the steps since the line before.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

namespace ito::apps {

class MetricsLog {
  public:
    static constexpr std::int64_t every = 10;  ///< steps that one line sums up

    /// Opens the file to append to it. It keeps the lines that an uninterrupted training would have written up to `steps_done`. It
    /// removes those past the checkpoint, one that a crash cut short, and a last one over fewer than `every` steps, since those
    /// are in the checkpoint.
    MetricsLog(const std::filesystem::path& path, std::int64_t steps_done);

    void write(const nlohmann::ordered_json& line);
    /// "seconds" of the last line up to `steps_done`, kept or not: training time before this command.
    double seconds_before() const { return seconds_before_; }

  private:
    std::filesystem::path path_;
    std::ofstream file_;
    double seconds_before_ = 0;
};

}  // namespace ito::apps
