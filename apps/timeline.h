#pragma once
// One training step as a timeline: nested spans in the Chrome trace event format, which https://ui.perfetto.dev and
// chrome://tracing open.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/trace.h"

namespace ito::apps {

/// Collects the spans of this thread.
class Timeline : public trace::Listener {
  public:
    void begin(trace::Kind kind, const char* name, const Shape* shape) override;
    void end() override;
    void made(const char* op, const Tensor& output, std::span<const Tensor> inputs) override;

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
    std::int64_t now() const { return std::chrono::nanoseconds(Clock::now() - start_).count(); }

    const Clock::time_point start_ = Clock::now();
    std::vector<Event> events_;
    std::vector<std::size_t> open_;  // events that have begun, the innermost last
};

/// ito train --trace: the timeline of one step of a command.
struct StepTrace {
    std::string file;
    std::int64_t step = 3;  ///< counted from 1 in this command; the first ones fill memory, plans and caches

    /// Refuses a file that could not be written, and a step that there will not be; `steps` are all that this command
    /// makes, 0 if nobody knows yet.
    void check(std::int64_t steps) const;
    bool wanted(std::int64_t number) const { return !file.empty() && number == step; }
    /// Writes the file; what to tell the user.
    std::string write(const Timeline& timeline, std::int64_t training_step) const;
};

}  // namespace ito::apps
