#pragma once
// One training step as a timeline: nested spans in the Chrome trace event format, which https://ui.perfetto.dev and
// chrome://tracing open.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apps/output_file.h"
#include "core/autograd/op_listener.h"

namespace ito::apps {

/// Collects the spans of this thread and the work of parallel_for's helpers.
class Timeline : public trace::OpListener {
  public:
    void begin(trace::Kind kind, const char* name, const Shape* shape) override;
    void end() override;
    void made(const char* op, const Tensor& output, std::span<const Tensor> inputs) override;
    void worked(int worker, std::int64_t pieces, Time begin, Time end) noexcept override;

    /// All spans so far, as one JSON object. `about` names the step to readers.
    std::string to_json(const std::string& about) const;

  private:
    using Clock = std::chrono::steady_clock;
    struct Event {
        trace::Kind kind = trace::Kind::phase;
        std::string name;
        std::int64_t start = 0, duration = 0;  // ns
        Shape shape;                           // of the output, or of the gradient that comes in
        std::vector<Shape> inputs;
        double flops = 0;
    };
    /// A helper's share of one parallel_for.
    struct Share {
        int worker = 0;
        std::int64_t pieces = 0, start = 0, end = 0;
    };
    std::int64_t at(Time time) const { return std::chrono::nanoseconds(time - start_).count(); }
    std::int64_t now() const { return at(Clock::now()); }
    /// The innermost event at that time.
    const Event* around(const Share& share) const;

    const Clock::time_point start_ = Clock::now();
    std::vector<Event> events_;
    std::vector<std::size_t> open_;  // events that have begun, the innermost last
    std::mutex mutex_;               // of shares_, which the helpers write
    std::vector<Share> shares_;
};

/// ito train --trace: the timeline of one step of a command.
struct StepTrace {
    std::string file;
    std::int64_t step = 3;  ///< counted from 1 in this command; the first ones fill memory, plans and caches

    /// Throws Error if the file could not be written, or if there will be no such step. `steps`: how many this command makes,
    /// 0 if that is not known yet.
    void check(std::int64_t steps);
    bool wanted(std::int64_t number) const { return !file.empty() && number == step; }
    /// Writes the file. Returns a line for the user.
    std::string write(const Timeline& timeline, std::int64_t training_step) const;

  private:
    std::shared_ptr<OutputFile> output_;
};

}  // namespace ito::apps
