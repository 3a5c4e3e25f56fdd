#pragma once
// metrics.jsonl, the record of a training: one JSON object a line, each the mean over the steps since the line before.
//
//   {"step":10,"loss":0.31,"loss_by_timestep":[0.9,0.2,0.1,null],"grad_norm":1.2,"lr":0.001,"images_per_second":98.5,"seconds":4.1}

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "kernels/step_metrics/step_metrics.h"

namespace ito::diffusion {

/// A value that a damaged line lacks is none.
struct MetricsLine {
    std::int64_t step = 0;  ///< steps done
    std::optional<double> loss = {};
    /// By quarter of [0, T), the least noise first; none where no sample fell.
    std::array<std::optional<double>, kernels::timestep_quartiles> loss_by_timestep = {};
    std::optional<double> grad_norm = {}, lr = {}, images_per_second = {};
    std::optional<double> seconds = {};  ///< of training up to this line, in all commands together
};

/// Writes the file.
class MetricsLog {
  public:
    static constexpr std::int64_t every = 10;  ///< steps that one line sums up

    /// Opens the file to append to it. It keeps the lines that an uninterrupted training would have written up to
    /// `steps_done`. Others go: those past the checkpoint, one that a crash cut short, and one over the fewer than `every`
    /// steps before an end (those steps are in the checkpoint's window, and so in the next line).
    MetricsLog(const std::filesystem::path& path, std::int64_t steps_done);

    void write(const MetricsLine& line);
    /// "seconds" of the last line up to `steps_done`, kept or not: the training time of the commands before this one.
    double seconds_before() const { return seconds_before_; }

  private:
    std::filesystem::path path_;
    std::ofstream file_;
    double seconds_before_ = 0;
};

/// All lines but damaged and unfinished ones; none if there is no file. If the last line covers less than half as many steps as
/// the one before, it keeps only step, lr and seconds: a training that ends between two lines writes one for the steps
/// since, too few for a mean that says anything.
std::vector<MetricsLine> read_metrics(const std::filesystem::path& path);

}  // namespace ito::diffusion
