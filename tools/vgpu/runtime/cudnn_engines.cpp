// The stand-in for what cuDNN knows of convolutions: which graphs are one, which engines compute them, and which of those the
// heuristics name. What the real library (9.19) refuses of the project's graphs is refused here too.
#include <algorithm>
#include <cstring>
#include <set>

#include "tools/vgpu/runtime/cudnn.h"

namespace vgpu::detail {
namespace {

constexpr const char* call = "cudnnBackendFinalize";

bool power_of_two(std::int64_t n) {
    return n > 0 && (n & (n - 1)) == 0;
}
std::int64_t bytes_of(int type) {
    return type == CUDNN_DATA_FLOAT ? 4 : type == CUDNN_DATA_BFLOAT16 ? 2 : 0;
}

DnnTensor read_tensor(const DnnDescriptor& d) {
    DnnTensor made;
    made.id = dnn_value<std::int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID);
    made.alignment = dnn_value<std::int64_t>(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    made.type = dnn_value<int>(d, CUDNN_ATTR_TENSOR_DATA_TYPE);
    made.inside = d.attributes.contains(CUDNN_ATTR_TENSOR_IS_VIRTUAL) &&
                  dnn_value<bool>(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    for (std::size_t i = 0; i < 4; ++i) {
        made.size[i] = dnn_value<std::int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        made.stride[i] = dnn_value<std::int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES, i);
    }
    return made;
}

std::string tensor_problem(const DnnTensor& t) {
    if (bytes_of(t.type) == 0) return "the stand-in knows tensors of float32 and bfloat16 only";
    if (!power_of_two(t.alignment) || t.alignment < bytes_of(t.type))
        return "a tensor's alignment of " + std::to_string(t.alignment) + " bytes";
    for (std::size_t i = 0; i < 4; ++i)
        if (t.size[i] < 1 || t.stride[i] < 1) return "a tensor's size or stride is not positive";
    // Channels innermost, pixel after pixel, image after image.
    if (t.stride[1] != 1 || t.stride[3] < t.size[1] || t.stride[2] < t.stride[3] * t.size[3] ||
        t.stride[0] < t.stride[2] * t.size[2])
        return "a tensor's strides are not those of N, H, W, C, or its elements overlap";
    return "";
}

/// What the three kinds of convolution call their parts.
struct Names {
    int x, w, y, convolution, alpha, beta;
};
Names names_of(DnnGraph::Pass pass) {
    switch (pass) {
        case DnnGraph::Pass::forward:
            return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
        case DnnGraph::Pass::backward_data:
            return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
        default:
            return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    }
}

const DnnTensor& result_of(const DnnGraph& g) {
    return g.pass == DnnGraph::Pass::forward ? g.y : g.pass == DnnGraph::Pass::backward_data ? g.x : g.weight;
}

void require(bool condition, const char* otherwise) {
    if (!condition) throw std::string(otherwise);
}

void read_convolution(const DnnDescriptor& operation, DnnGraph& g) {
    switch (operation.kind) {
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
            g.pass = DnnGraph::Pass::forward;
            break;
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
            g.pass = DnnGraph::Pass::backward_data;
            break;
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
            g.pass = DnnGraph::Pass::backward_weights;
            break;
        default:
            throw std::string("the stand-in knows graphs that begin with a convolution only");
    }
    const Names names = names_of(g.pass);
    const DnnDescriptor& x = dnn_part(operation, names.x);
    const DnnDescriptor& w = dnn_part(operation, names.w);
    const DnnDescriptor& y = dnn_part(operation, names.y);
    const DnnDescriptor& c = dnn_part(operation, names.convolution);
    require(x.kind == CUDNN_BACKEND_TENSOR_DESCRIPTOR && w.kind == x.kind && y.kind == x.kind,
            "an operand of a convolution is not a tensor");
    require(c.kind == CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "a convolution's descriptor is not one");
    g.x = read_tensor(x), g.weight = read_tensor(w), g.y = read_tensor(y);
    g.alpha = dnn_value<float>(operation, names.alpha), g.beta = dnn_value<float>(operation, names.beta);
    std::array<std::int64_t, 2> out{};
    for (std::size_t i = 0; i < 2; ++i) {
        g.before[i] = dnn_value<std::int64_t>(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
        g.after[i] = dnn_value<std::int64_t>(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i);
        g.step[i] = dnn_value<std::int64_t>(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
        require(g.before[i] >= 0 && g.after[i] >= 0 && g.step[i] >= 1,
                "a padding or stride of a convolution");
        require(dnn_value<std::int64_t>(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, i) == 1,
                "the stand-in knows convolutions without dilation only");
        out[i] = (g.x.size[2 + i] + g.before[i] + g.after[i] - g.weight.size[2 + i]) / g.step[i] + 1;
    }
    require(dnn_value<std::int64_t>(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) == 2,
            "the stand-in knows convolutions of images only");
    require(dnn_value<int>(c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_FLOAT,
            "a convolution must be summed in float32");
    require(dnn_value<int>(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CROSS_CORRELATION,
            "the stand-in knows cross-correlation only");
    require(g.x.size[1] == g.weight.size[1] && g.y.size[1] == g.weight.size[0],
            "a convolution's channels differ from its weights'");
    require(g.y.size[0] == g.x.size[0] && g.y.size[2] == out[0] && g.y.size[3] == out[1],
            "a convolution's output has another size than its input, padding and stride make");
}

/// y = x + b.
void read_addition(const DnnDescriptor& operation, DnnGraph& g) {
    require(operation.kind == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
            "the stand-in knows additions to a convolution's result only");
    const DnnDescriptor& what = dnn_part(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    require(what.kind == CUDNN_BACKEND_POINTWISE_DESCRIPTOR &&
                dnn_value<int>(what, CUDNN_ATTR_POINTWISE_MODE) == CUDNN_POINTWISE_ADD &&
                dnn_value<int>(what, CUDNN_ATTR_POINTWISE_MATH_PREC) == CUDNN_DATA_FLOAT,
            "the stand-in knows additions in float32 only");
    const DnnTensor x = read_tensor(dnn_part(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    const DnnTensor b = read_tensor(dnn_part(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
    const DnnTensor y = read_tensor(dnn_part(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    require(x.id == g.out.id && x.inside,
            "an addition does not begin with the result before it, kept inside");
    require(y.size == x.size, "an addition changes the size");
    require(b.size == x.size || b.size == std::array<std::int64_t, 4>{1, x.size[1], 1, 1},
            "what is added has neither the result's size nor one pixel");
    require(!b.inside, "what is added is nowhere computed");
    g.addends.push_back(b);
    g.out = y;
}

}  // namespace

DnnGraph read_dnn_graph(const DnnDescriptor& graph) {
    const auto& operations = graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors;
    DnnGraph g;
    read_convolution(*operations.front(), g);
    g.out = result_of(g);
    for (std::size_t i = 1; i < operations.size(); ++i) read_addition(*operations[i], g);
    require(!g.out.inside, "the graph's result is kept inside");
    require(g.beta == 0 || g.addends.empty(), "a result that is added to cannot be kept inside");
    std::multiset<std::int64_t> ids{g.x.id, g.weight.id, g.y.id, g.out.id};
    for (const DnnTensor& t : g.addends) ids.insert(t.id);
    for (const std::int64_t id : ids)
        require(ids.count(id) == (id == result_of(g).id && id == g.out.id ? 2u : 1u),
                "two tensors have one id");
    return g;
}

// ------------------------------------------------------------------------------------------------------------- engines

namespace {

// Unequal notes, so that a program that ignores one gets other bits than it should.
constexpr DnnEngine engines[] = {
    {.index = 0,
     .tensor_cores = false,
     .nondeterministic = false,
     .needs_driver = false,
     .tiles = 2,
     .workspace = 0},
    {.index = 7,
     .tensor_cores = true,
     .nondeterministic = false,
     .needs_driver = false,
     .tiles = 4,
     .workspace = 1 << 16},
    {.index = 12,
     .tensor_cores = true,
     .nondeterministic = true,
     .needs_driver = false,
     .tiles = 1,
     .workspace = 0},
    // Compiled at run time, which fails.
    {.index = 20,
     .tensor_cores = true,
     .nondeterministic = false,
     .needs_driver = true,
     .tiles = 1,
     .workspace = 0},
    // More workspace than anybody would give.
    {.index = 31,
     .tensor_cores = false,
     .nondeterministic = false,
     .needs_driver = false,
     .tiles = 1,
     .workspace = std::int64_t{1} << 33},
};

struct Configuration {
    std::int64_t engine, tile;
};
// The worst first.
constexpr Configuration mode_a[] = {{12, 0}, {20, 0}, {31, 0}, {7, 1}, {7, 3}, {0, 0}};
constexpr Configuration mode_b[] = {{7, 1}, {0, 1}};

std::shared_ptr<DnnDescriptor> made(int kind) {
    auto descriptor = std::make_shared<DnnDescriptor>();
    descriptor->kind = kind, descriptor->finalized = true;
    return descriptor;
}
template <class T>
void store(DnnDescriptor& descriptor, int attribute, int type, const std::vector<T>& values) {
    DnnDescriptor::Values& to = descriptor.attributes[attribute];
    to.type = type, to.count = static_cast<std::int64_t>(values.size());
    to.bytes.resize(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(to.bytes.data(), values.data(), to.bytes.size());
}
void store(DnnDescriptor& descriptor, int attribute,
           std::vector<std::shared_ptr<const DnnDescriptor>> parts) {
    DnnDescriptor::Values& to = descriptor.attributes[attribute];
    to.type = CUDNN_TYPE_BACKEND_DESCRIPTOR, to.count = static_cast<std::int64_t>(parts.size());
    to.descriptors = std::move(parts);
}

void add_notes(DnnDescriptor& engine, const DnnEngine& e) {
    std::vector<int> notes;
    if (e.tensor_cores) notes.push_back(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    if (e.nondeterministic) notes.push_back(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    store(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, notes);
}

/// A finalized configuration of `graph`, as the heuristics return it.
std::shared_ptr<DnnDescriptor> configure(const std::shared_ptr<const DnnDescriptor>& graph,
                                         const Configuration& c) {
    const auto engine = made(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    store(*engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, {graph});
    store<std::int64_t>(*engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, {c.engine});
    add_notes(*engine, *find_dnn_engine(c.engine));
    const auto knob = made(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    store<int>(*knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, {CUDNN_KNOB_TYPE_TILE_SIZE});
    store<std::int64_t>(*knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, {c.tile});
    const auto configuration = made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    store(*configuration, CUDNN_ATTR_ENGINECFG_ENGINE, {engine});
    store(*configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, {knob});
    return configuration;
}

cudnnStatus_t finalize_engine(DnnDescriptor& d) {
    const auto index = dnn_value<std::int64_t>(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    const DnnDescriptor& graph = dnn_part(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    if (graph.kind != CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
        return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, call, "an engine's graph is not one");
    const DnnEngine* const engine = find_dnn_engine(index);
    if (engine == nullptr || !dnn_engine_computes(*engine, read_dnn_graph(graph)))
        return decline_cudnn(CUDNN_STATUS_NOT_SUPPORTED, "no engine " + std::to_string(index) + " here");
    add_notes(d, *engine);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_configuration(const DnnDescriptor& d) {
    const DnnDescriptor& engine = dnn_part(d, CUDNN_ATTR_ENGINECFG_ENGINE);
    if (engine.kind != CUDNN_BACKEND_ENGINE_DESCRIPTOR)
        return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, call,
                            "a configuration's engine is not one");
    const auto knobs = d.attributes.find(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
    if (knobs == d.attributes.end()) return CUDNN_STATUS_SUCCESS;
    const DnnEngine& e = *find_dnn_engine(dnn_value<std::int64_t>(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
    for (const auto& knob : knobs->second.descriptors) {
        if (knob->kind != CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, call, "a knob choice is not one");
        const auto value = dnn_value<std::int64_t>(*knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
        if (dnn_value<int>(*knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) != CUDNN_KNOB_TYPE_TILE_SIZE ||
            value < 0 || value >= e.tiles)
            return decline_cudnn(CUDNN_STATUS_NOT_SUPPORTED, "the engine has no such knob or value");
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_plan(DnnDescriptor& d) {
    const DnnDescriptor& configuration = dnn_part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (configuration.kind != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
        return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, call,
                            "a plan's configuration is not one");
    const DnnEngine& e = *find_dnn_engine(dnn_value<std::int64_t>(
        dnn_part(configuration, CUDNN_ATTR_ENGINECFG_ENGINE), CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
    if (e.needs_driver)
        return decline_cudnn(CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING, "nothing compiles it");
    store<std::int64_t>(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, {e.workspace});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_pack(const DnnDescriptor& d) {
    const auto& ids = d.attributes.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    if (d.attributes.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).count != ids.count)
        return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call,
                            "a variant pack has more ids than pointers, or fewer");
    std::set<std::int64_t> seen;
    for (std::size_t i = 0; i < static_cast<std::size_t>(ids.count); ++i)
        if (!seen.insert(dnn_value<std::int64_t>(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i)).second)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, call,
                                "a variant pack names a tensor twice");
    return CUDNN_STATUS_SUCCESS;
}

}  // namespace

const DnnEngine* find_dnn_engine(std::int64_t index) {
    for (const DnnEngine& e : engines)
        if (e.index == index) return &e;
    return nullptr;
}

/// As the real library has it on the three devices that the virtual GPU shows.
bool dnn_engine_computes(const DnnEngine& engine, const DnnGraph& g) {
    const bool bfloat = g.x.type == CUDNN_DATA_BFLOAT16;
    if (g.x.type != g.y.type && !g.y.inside) return false;
    if (g.pass == DnnGraph::Pass::backward_weights) {
        if (g.weight.type != g.x.type) return false;  // float32 gradients of bfloat16 factors: no usable plan
    } else if (g.weight.type != g.x.type) {
        return false;
    }
    if (g.out.type != g.x.type) return false;
    if (!g.addends.empty()) {
        // A bias comes last, perhaps after a residual, in the result's type.
        if (g.addends.size() > 2 || g.addends.back().size == g.out.size) return false;
        if (g.addends.size() == 2 && g.addends.front().size != g.out.size) return false;
        for (const DnnTensor& t : g.addends)
            if (t.type != g.out.type) return false;
        if (g.y.type != CUDNN_DATA_FLOAT) return false;
    }
    if (engine.tensor_cores) return true;
    if (bfloat) return true;
    const std::string device = profile().name;
    if (g.symmetric() || g.pass == DnnGraph::Pass::backward_weights) return true;
    return device == "h100" || (device == "a100" && g.addends.empty());
}

bool dnn_results(const std::shared_ptr<DnnDescriptor>& descriptor, int attribute,
                 std::vector<std::shared_ptr<DnnDescriptor>>& results) {
    const auto copy = [&](int from) {
        const auto stored = descriptor->attributes.find(from);
        if (stored == descriptor->attributes.end()) return;
        for (const auto& part : stored->second.descriptors)
            results.push_back(std::make_shared<DnnDescriptor>(*part));
    };
    switch (attribute) {
        case CUDNN_ATTR_ENGINECFG_ENGINE:
        case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
            copy(attribute);
            return true;
        case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
            if (descriptor->kind != CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) return false;
            const auto& graph =
                descriptor->attributes.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).descriptors[0];
            const DnnGraph g = read_dnn_graph(*graph);
            const bool a = dnn_value<int>(*descriptor, CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_A;
            const auto add = [&](const Configuration& c) {
                if (dnn_engine_computes(*find_dnn_engine(c.engine), g))
                    results.push_back(configure(graph, c));
            };
            if (a)
                std::for_each(std::begin(mode_a), std::end(mode_a), add);
            else
                std::for_each(std::begin(mode_b), std::end(mode_b), add);
            return true;
        }
        default:
            return false;
    }
}

cudnnStatus_t finalize_dnn(DnnDescriptor& d) try {
    switch (d.kind) {
        case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
            if (std::string why = tensor_problem(read_tensor(d)); !why.empty())
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call, why);
            return CUDNN_STATUS_SUCCESS;
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: {
            DnnGraph g;
            read_convolution(d, g);
            return CUDNN_STATUS_SUCCESS;
        }
        case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
            read_dnn_graph(d);
            return CUDNN_STATUS_SUCCESS;
        case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
            if (dnn_value<std::int32_t>(d, CUDNN_ATTR_DEVICEPROP_DEVICE_ID) != 0)
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call, "there is one device, 0");
            return CUDNN_STATUS_SUCCESS;
        case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: {
            const int mode = dnn_value<int>(d, CUDNN_ATTR_ENGINEHEUR_MODE);
            if (mode != CUDNN_HEUR_MODE_A && mode != CUDNN_HEUR_MODE_B)
                return refuse_cudnn(CUDNN_STATUS_NOT_SUPPORTED, call,
                                    "the stand-in knows modes A and B only");
            if (dnn_part(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).kind !=
                CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, call,
                                    "the heuristics' graph is not one");
            return CUDNN_STATUS_SUCCESS;
        }
        case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
            return finalize_engine(d);
        case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
            return finalize_configuration(d);
        case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
            return finalize_plan(d);
        case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
            return finalize_pack(d);
        default:
            return CUDNN_STATUS_SUCCESS;
    }
} catch (const std::string& why) {
    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call, why);
}

}  // namespace vgpu::detail
