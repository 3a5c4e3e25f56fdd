#include "apps/timeline.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/output_file.h"
#include "apps/terminal.h"
#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/ops/flops.h"

namespace ito::apps {

using Json = nlohmann::ordered_json;

void Timeline::begin(trace::Kind kind, const char* name, const Shape* shape) {
    open_.push_back(events_.size());
    events_.push_back(
        {.kind = kind, .name = name, .shape = shape ? *shape : Shape(), .inputs = {}, .flops = 0});
    events_.back().start = now();  // the time of adding the event counts for its parent
}

void Timeline::end() {
    const std::int64_t time = now();
    Event& event = events_.at(open_.back());
    event.duration = time - event.start;
    open_.pop_back();
}

void Timeline::made(const char* op, const Tensor& output, std::span<const Tensor> inputs) {
    // An op from outside this project may have no span.
    if (open_.empty() || events_[open_.back()].kind != trace::Kind::op || events_[open_.back()].name != op)
        return;
    Event& event = events_[open_.back()];
    event.shape = output.shape();
    for (const Tensor& input : inputs) event.inputs.push_back(shape_of(input));
    event.flops = ops::flops_of(op, output, inputs).forward;
}

void Timeline::worked(int worker, std::int64_t pieces, Time begin, Time end) noexcept {
    const std::lock_guard lock(mutex_);
    shares_.push_back({worker, pieces, at(begin), at(end)});
}

const Timeline::Event* Timeline::around(const Share& share) const {
    auto after = std::upper_bound(events_.begin(), events_.end(), share.start,
                                  [](std::int64_t time, const Event& event) { return time < event.start; });
    while (after != events_.begin()) {
        const Event& event = *--after;
        if (event.start + event.duration >= share.end) return &event;
    }
    return nullptr;
}

std::string Timeline::to_json(const std::string& about) const {
    constexpr int process = 1, thread = 1;  // the helpers' numbers follow
    const auto describe = [&](const char* what, int track, const Json& args) {
        return Json{{"ph", "M"}, {"name", what}, {"pid", process}, {"tid", track}, {"args", args}};
    };
    const auto span = [&](const std::string& name, trace::Kind kind, int track, std::int64_t start,
                          std::int64_t duration) {
        return Json{{"ph", "X"},
                    {"name", name},
                    {"cat", trace::name_of(kind)},
                    {"pid", process},
                    {"tid", track},
                    {"ts", static_cast<double>(start) / 1e3},
                    {"dur", static_cast<double>(duration) / 1e3}};
    };
    Json events = Json::array({describe("process_name", thread, {{"name", "ito: " + about}})});
    int helpers = 0;
    for (const Share& share : shares_) helpers = std::max(helpers, share.worker);
    for (int worker = 0; worker <= helpers; ++worker) {
        const std::string name = worker == 0 ? "step" : fmt::format("helper {}", worker);
        events.push_back(describe("thread_name", thread + worker, {{"name", name}}));
        events.push_back(describe("thread_sort_index", thread + worker, {{"sort_index", worker}}));
    }
    for (const Event& event : events_) {
        Json json = span(event.name, event.kind, thread, event.start, event.duration);
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
    for (const Share& share : shares_) {
        const Event* call = around(share);
        events.push_back(span(call ? call->name : "parallel_for", trace::Kind::kernel, thread + share.worker,
                              share.start, share.end - share.start));
        events.back()["args"] = {{"pieces", share.pieces}};
    }
    return Json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}.dump(1) + "\n";
}

void StepTrace::check(std::int64_t steps) {
    if (file.empty()) return;
    require(step >= 1, "--trace-step {}: expected 1 or more", step);
    require(steps == 0 || step <= steps, "--trace-step {}: this training makes {}; choose an earlier one",
            step, counted(steps, "step"));
    output_ = std::make_shared<OutputFile>("--trace", file, false, "");
}

std::string StepTrace::write(const Timeline& timeline, std::int64_t training_step) const {
    const auto written = output_->write(timeline.to_json(fmt::format("training step {}", training_step)));
    return fmt::format("step {}: trace -> {}, opens in https://ui.perfetto.dev", training_step,
                       written.string());
}

}  // namespace ito::apps
