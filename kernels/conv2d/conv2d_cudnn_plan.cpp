#include "kernels/conv2d/conv2d_cudnn_plan.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "kernels/conv2d/conv2d_cudnn_graph.h"
#include "kernels/cuda/choose.h"

namespace ito::kernels::conv2d_detail {
namespace {

using cudnn::check;
using cudnn::CudnnError;
using cudnn::Descriptor;

/// Settings that an engine may have.
constexpr std::int64_t most_knobs = CUDNN_KNOB_TYPE_COUNTS;

std::vector<Descriptor> several(cudnnBackendDescriptorType_t type, std::int64_t count) {
    std::vector<Descriptor> made;
    for (std::int64_t i = 0; i < count; ++i) made.emplace_back(type);
    return made;
}

/// Reads an attribute that is a list of descriptors into `into`; how many there were.
std::int64_t read(const Descriptor& from, cudnnBackendAttributeName_t name, std::vector<Descriptor>& into) {
    std::vector<cudnnBackendDescriptor_t> handles;
    for (const Descriptor& d : into) handles.push_back(d.get());
    const auto capacity = static_cast<std::int64_t>(handles.size());
    return std::min(from.get(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, capacity, handles.data()), capacity);
}

/// Whether results may come from this engine: the same bits each time, float32 sums, float32 factors as they are.
bool allowed(const Descriptor& engine, const CudnnProblem& p) {
    std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
    const std::int64_t count = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                          static_cast<std::int64_t>(notes.size()), notes.data());
    const bool strict = p.bfloat == 0 && p.tf32 == 0;
    return std::none_of(notes.begin(), notes.begin() + count, [&](cudnnBackendNumericalNote_t note) {
        return note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
               note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
               (strict && (note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
                           note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
    });
}

/// The engine and settings of a configuration that the heuristics returned.
CudnnEngine describe(const Descriptor& configuration, const Descriptor& engine) {
    CudnnEngine made;
    made.index = engine.integer(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    std::vector<Descriptor> knobs = several(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, most_knobs);
    const std::int64_t count = read(configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, knobs);
    for (std::int64_t i = 0; i < count; ++i) {
        const Descriptor& knob = knobs[static_cast<std::size_t>(i)];
        cudnnBackendKnobType_t type{};
        knob.get(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        made.knobs.emplace_back(type, knob.integer(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
    }
    std::sort(made.knobs.begin(), made.knobs.end());
    return made;
}

/// Null where the library cannot make the plan, or only with more workspace than there may be.
CudnnPlanPointer finalized(const Descriptor& device, const Descriptor& configuration,
                           CudnnEngine engine) try {
    Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
    plan.finalize();
    auto made = std::make_shared<CudnnPlan>(std::move(engine), std::move(plan));
    return made->workspace_bytes() <= cudnn_workspace_limit ? made : nullptr;
} catch (const CudnnError&) {
    return nullptr;
}

bool read_number(std::string_view& text, std::int64_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
}
}  // namespace

std::string CudnnEngine::text() const {
    std::string made = "engine ";
    made.append(std::to_string(index)).append(" knobs");
    for (const auto& [type, value] : knobs)
        made.append(" ").append(std::to_string(type)).append("=").append(std::to_string(value));
    return made;
}

std::optional<CudnnEngine> CudnnEngine::parse(std::string_view text) {
    CudnnEngine made;
    if (!skip(text, "engine ") || !read_number(text, made.index) || !skip(text, " knobs"))
        return std::nullopt;
    while (!text.empty()) {
        std::int64_t type = 0, value = 0;
        if (!skip(text, " ") || !read_number(text, type) || !skip(text, "=") || !read_number(text, value))
            return std::nullopt;
        made.knobs.emplace_back(type, value);
    }
    return made;
}

Descriptor cudnn_device(int index) {
    Descriptor made(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    const std::int32_t id = index;
    made.set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &id);
    made.finalize();
    return made;
}
Descriptor cudnn_device(const std::string& json) {
    Descriptor made(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    // With the zero at its end.
    made.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
             static_cast<std::int64_t>(json.size()) + 1, json.c_str());
    made.finalize();
    return made;
}

CudnnPlan::CudnnPlan(CudnnEngine engine, Descriptor plan)
    : engine_(std::move(engine)),
      plan_(std::move(plan)),
      workspace_bytes_(plan_.integer(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)) {}

void CudnnPlan::run(cudnnHandle_t handle, const CudnnPointers& pointers, void* workspace) const {
    std::vector<std::int64_t> ids;
    std::vector<const void*> addresses;
    const auto add = [&](CudnnTensor id, const void* address) {
        if (address == nullptr) return;
        ids.push_back(id);
        addresses.push_back(address);
    };
    add(x_id, pointers.x), add(weight_id, pointers.weight), add(y_id, pointers.y);
    add(residual_id, pointers.residual), add(bias_id, pointers.bias);
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
             static_cast<std::int64_t>(addresses.size()), addresses.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    pack.finalize();
    check(cudnnBackendExecute(handle, plan_.get(), pack.get()), "cudnnBackendExecute");
}

std::vector<CudnnPlanPointer> cudnn_plans(const CudnnProblem& problem, const Descriptor& device,
                                          std::size_t limit) {
    std::vector<CudnnPlanPointer> plans;
    Descriptor graph;
    try {
        graph = cudnn_graph(problem);
    } catch (const CudnnError&) {
        return plans;
    }
    std::vector<CudnnEngine> seen;
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B}) {
        std::vector<Descriptor> configurations;
        std::int64_t count = 0;
        try {
            Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
            heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
            heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
            heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
            heuristics.finalize();
            // How many there may be; fewer come back.
            count = heuristics.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
            configurations = several(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, count);
            count = read(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, configurations);
        } catch (const CudnnError&) {
            continue;  // this mode has none
        }
        for (std::int64_t i = 0; i < count; ++i) {
            const Descriptor& configuration = configurations[static_cast<std::size_t>(i)];
            std::vector<Descriptor> engine = several(CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
            if (read(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, engine) != 1) continue;
            if (!allowed(engine[0], problem)) continue;
            CudnnEngine described = describe(configuration, engine[0]);
            if (std::find(seen.begin(), seen.end(), described) != seen.end()) continue;
            seen.push_back(described);
            CudnnPlanPointer plan = finalized(device, configuration, std::move(described));
            if (plan != nullptr) plans.push_back(std::move(plan));
            if (plans.size() == limit) return plans;
        }
    }
    return plans;
}

CudnnPlanPointer cudnn_plan(const CudnnProblem& problem, const Descriptor& device,
                            const CudnnEngine& wanted) try {
    const Descriptor graph = cudnn_graph(problem);
    Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    engine.set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, wanted.index);
    engine.set(CUDNN_ATTR_ENGINE_DEVICEPROP, device);
    engine.finalize();
    if (!allowed(engine, problem)) return nullptr;
    std::vector<Descriptor> knobs;
    std::vector<cudnnBackendDescriptor_t> handles;
    for (const auto& [type, value] : wanted.knobs) {
        const auto known = static_cast<cudnnBackendKnobType_t>(type);
        Descriptor& knob = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &known);
        knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
        knob.finalize();
        handles.push_back(knob.get());
    }
    Descriptor configuration(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    configuration.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (!handles.empty()) configuration.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, handles);
    configuration.finalize();
    return finalized(device, configuration, wanted);
} catch (const CudnnError&) {
    return nullptr;
}

}  // namespace ito::kernels::conv2d_detail
