#include "apps/timeline.h"

#include <nlohmann/json.hpp>

#include "apps/output_file.h"
#include "apps/terminal.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/ops/flops.h"

namespace ito::apps {

using Json = nlohmann::ordered_json;

void Timeline::begin(trace::Kind kind, const char* name, const Shape* shape) {
    open_.push_back(events_.size());
    events_.push_back(
        {.kind = kind, .name = name, .shape = shape ? *shape : Shape(), .inputs = {}, .flops = 0});
    events_.back().start = now();  // the time that the event itself took is its parent's
}

void Timeline::end() {
    const std::int64_t time = now();
    Event& event = events_.at(open_.back());
    event.duration = time - event.start;
    open_.pop_back();
}

void Timeline::made(const char* op, const Tensor& output, std::span<const Tensor> inputs) {
    // An op of somebody's own may have no span: then there is nothing to describe.
    if (open_.empty() || events_[open_.back()].kind != trace::Kind::op || events_[open_.back()].name != op)
        return;
    Event& event = events_[open_.back()];
    event.shape = output.shape();
    for (const Tensor& input : inputs) event.inputs.push_back(shape_of(input));
    event.flops = ops::flops_of(op, output, inputs).forward;
}

std::string Timeline::to_json(const std::string& about) const {
    constexpr int process = 1, thread = 1;
    const auto name_track = [&](const char* what, const std::string& name) {
        return Json{
            {"ph", "M"}, {"name", what}, {"pid", process}, {"tid", thread}, {"args", {{"name", name}}}};
    };
    Json events =
        Json::array({name_track("process_name", "ito: " + about), name_track("thread_name", "step")});
    for (const Event& event : events_) {
        Json json{{"ph", "X"},
                  {"name", event.name},
                  {"cat", trace::name_of(event.kind)},
                  {"pid", process},
                  {"tid", thread},
                  {"ts", static_cast<double>(event.start) / 1e3},
                  {"dur", static_cast<double>(event.duration) / 1e3}};
        if (event.kind == trace::Kind::op)
            json["args"] = {{"output", event.shape}, {"inputs", event.inputs}};
        else if (event.kind == trace::Kind::backward)
            json["args"] = {{"gradient", event.shape}};
        if (event.flops > 0) {
            json["args"]["gflop"] = event.flops / 1e9;
            json["args"]["gflop_per_s"] =
                event.flops / static_cast<double>(std::max<std::int64_t>(event.duration, 1));
        }
        events.push_back(std::move(json));
    }
    return Json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}.dump(1) + "\n";
}

void StepTrace::check(std::int64_t steps) const {
    if (file.empty()) return;
    require(step >= 1, "--trace-step {}: expected 1 or more", step);
    require(steps == 0 || step <= steps, "--trace-step {}: this training makes {}; choose an earlier one",
            step, counted(steps, "step"));
    check_output_file("--trace", file, false, "");
}

std::string StepTrace::write(const Timeline& timeline, std::int64_t training_step) const {
    write_file_atomically(file, timeline.to_json(fmt::format("training step {}", training_step)));
    return fmt::format("step {}: trace -> {}, opens in https://ui.perfetto.dev", training_step, file);
}

}  // namespace ito::apps
