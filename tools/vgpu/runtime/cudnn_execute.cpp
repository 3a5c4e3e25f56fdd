// The stand-in for running a plan of cuDNN: the variant pack is checked against the plan's graph, the convolution is summed in
// double and rounded where the graph has a tensor.

#include "tools/vgpu/kernel.h"
#include "tools/vgpu/runtime/cudnn.h"
#include "tools/vgpu/runtime/elements.h"

namespace vgpu::detail {
namespace {

std::size_t bytes_of(int type) {
    return type == CUDNN_DATA_FLOAT ? 4 : 2;
}

/// A tensor's size in elements, and where its pixels are.
struct Pixels {
    explicit Pixels(const DnnTensor& t)
        : tensor(t),
          channels(static_cast<std::size_t>(t.size[1])),
          count(static_cast<std::size_t>(t.size[0] * t.size[2] * t.size[3])) {}

    std::size_t offset(std::size_t pixel) const {
        const auto i = static_cast<std::int64_t>(pixel);
        const std::int64_t w = i % tensor.size[3], h = i / tensor.size[3] % tensor.size[2];
        return static_cast<std::size_t>(i / tensor.size[3] / tensor.size[2] * tensor.stride[0] +
                                        h * tensor.stride[2] + w * tensor.stride[3]) *
               bytes_of(tensor.type);
    }

    const DnnTensor& tensor;
    std::size_t channels, count;
};

/// Channels innermost and dense; empty after a report.
std::vector<float> read(const DnnTensor& t, const void* data, bool tf32 = false) {
    const Pixels pixels(t);
    std::vector<float> values;
    values.reserve(pixels.count * pixels.channels);
    for (std::size_t i = 0; i < pixels.count; ++i) {
        const std::byte* const from = device_read(static_cast<const std::byte*>(data) + pixels.offset(i),
                                                  pixels.channels * bytes_of(t.type));
        if (from == nullptr) return {};
        for (std::size_t c = 0; c < pixels.channels; ++c) {
            const float v = load_element(from + c * bytes_of(t.type), t.type != CUDNN_DATA_FLOAT);
            values.push_back(tf32 ? round_to_tf32(v) : v);
        }
    }
    return values;
}

void write(const DnnTensor& t, void* data, const std::vector<float>& values) {
    const Pixels pixels(t);
    for (std::size_t i = 0; i < pixels.count; ++i) {
        std::byte* const to = device_write(static_cast<std::byte*>(data) + pixels.offset(i),
                                           pixels.channels * bytes_of(t.type));
        if (to == nullptr) return;
        for (std::size_t c = 0; c < pixels.channels; ++c)
            store_element(to + c * bytes_of(t.type), t.type != CUDNN_DATA_FLOAT,
                          values[i * pixels.channels + c]);
    }
}

/// Calls body(pixel of x, pixel of y, tap) wherever a tap lies on the image.
template <class Body>
void for_each_tap(const DnnGraph& g, Body&& body) {
    const auto &x = g.x.size, &y = g.y.size, &w = g.weight.size;
    for (std::int64_t n = 0; n < y[0]; ++n)
        for (std::int64_t p = 0; p < y[2]; ++p)
            for (std::int64_t q = 0; q < y[3]; ++q)
                for (std::int64_t r = 0; r < w[2]; ++r)
                    for (std::int64_t s = 0; s < w[3]; ++s) {
                        const std::int64_t h = p * g.step[0] + r - g.before[0];
                        const std::int64_t v = q * g.step[1] + s - g.before[1];
                        if (h < 0 || h >= x[2] || v < 0 || v >= x[3]) continue;
                        body(static_cast<std::size_t>((n * x[2] + h) * x[3] + v),
                             static_cast<std::size_t>((n * y[2] + p) * y[3] + q),
                             static_cast<std::size_t>(r * w[3] + s));
                    }
}

/// The convolution's sums. `x`, `weight`, `y`: those two that are read.
std::vector<double> sums(const DnnGraph& g, const std::vector<float>& x, const std::vector<float>& weight,
                         const std::vector<float>& y) {
    const auto channels = static_cast<std::size_t>(g.x.size[1]), outs = static_cast<std::size_t>(g.y.size[1]);
    const auto taps = static_cast<std::size_t>(g.weight.size[2] * g.weight.size[3]);
    std::vector<double> sum;
    if (g.pass == DnnGraph::Pass::forward) {
        std::vector<double> by_channel(weight.size());  // [tap, c, k]
        for (std::size_t k = 0; k < outs; ++k)
            for (std::size_t i = 0; i < taps * channels; ++i)
                by_channel[i * outs + k] = weight[k * taps * channels + i];
        sum.resize(static_cast<std::size_t>(g.y.size[0] * g.y.size[2] * g.y.size[3]) * outs);
        for_each_tap(g, [&](std::size_t from, std::size_t to, std::size_t tap) {
            for (std::size_t c = 0; c < channels; ++c) {
                const double factor = x[from * channels + c];
                const double* const w = &by_channel[(tap * channels + c) * outs];
                double* const out = &sum[to * outs];
                for (std::size_t k = 0; k < outs; ++k) out[k] += factor * w[k];
            }
        });
    } else if (g.pass == DnnGraph::Pass::backward_data) {
        sum.resize(static_cast<std::size_t>(g.x.size[0] * g.x.size[2] * g.x.size[3]) * channels);
        for_each_tap(g, [&](std::size_t to, std::size_t from, std::size_t tap) {
            for (std::size_t k = 0; k < outs; ++k) {
                const double factor = y[from * outs + k];
                const float* const w = &weight[(k * taps + tap) * channels];
                double* const out = &sum[to * channels];
                for (std::size_t c = 0; c < channels; ++c) out[c] += factor * w[c];
            }
        });
    } else {
        sum.resize(outs * taps * channels);
        for_each_tap(g, [&](std::size_t from_x, std::size_t from_y, std::size_t tap) {
            for (std::size_t k = 0; k < outs; ++k) {
                const double factor = y[from_y * outs + k];
                const float* const in = &x[from_x * channels];
                double* const out = &sum[(k * taps + tap) * channels];
                for (std::size_t c = 0; c < channels; ++c) out[c] += factor * in[c];
            }
        });
    }
    return sum;
}

/// Each element once: what an engine really fetches depends on its tiles, which are not known here.
void count(const DnnGraph& g) {
    const auto bytes = [](const DnnTensor& t) {
        return static_cast<std::uint64_t>(t.size[0] * t.size[1] * t.size[2] * t.size[3]) * bytes_of(t.type);
    };
    vgpu::Counters c;
    c.kernel = "cudnnBackendExecute";
    c.launches = 1;
    for (const DnnTensor* t : {&g.x, &g.weight, &g.y})
        if (!t->inside && (t->id != g.out.id || g.beta != 0)) c.bytes_read += bytes(*t);
    for (const DnnTensor& t : g.addends) c.bytes_read += bytes(t);
    c.bytes_written = bytes(g.out);
    c.unique_bytes_read = c.bytes_read, c.unique_bytes_written = c.bytes_written;
    vgpu::count_library_call(c);
}

/// Tensors that the program gives the addresses of.
std::vector<const DnnTensor*> outside(const DnnGraph& g) {
    std::vector<const DnnTensor*> tensors{&g.x, &g.weight};
    if (!g.y.inside) tensors.push_back(&g.y);
    for (const DnnTensor& t : g.addends) tensors.push_back(&t);
    if (g.out.id != g.x.id && g.out.id != g.weight.id && (g.y.inside || g.out.id != g.y.id))
        tensors.push_back(&g.out);
    return tensors;
}

}  // namespace

void compute_dnn(const DnnGraph& g, const DnnEngine& engine, const std::map<std::int64_t, void*>& data) {
    const bool tf32 = engine.tensor_cores && g.x.type == CUDNN_DATA_FLOAT;
    std::vector<float> x, weight, y, before;
    const auto get = [&](const DnnTensor& t, std::vector<float>& into) {
        if (t.inside || t.id == g.out.id) return true;
        into = read(t, data.at(t.id), tf32);
        return !into.empty();
    };
    if (!get(g.x, x) || !get(g.weight, weight) || !get(g.y, y)) return;
    if (g.beta != 0) {
        before = read(g.out, data.at(g.out.id));
        if (before.empty()) return;
    }
    const std::vector<double> sum = sums(g, x, weight, y);
    // Another order of summing each time, as far as the bits are concerned.
    static int runs = 0;
    const double order = engine.nondeterministic ? 1 + 0x1p-9 * (++runs % 3) : 1;
    std::vector<float> result(sum.size());
    for (std::size_t i = 0; i < sum.size(); ++i)
        result[i] = static_cast<float>(g.alpha * sum[i] * order + (g.beta != 0 ? g.beta * before[i] : 0));
    const auto channels = static_cast<std::size_t>(g.out.size[1]);
    for (const DnnTensor& t : g.addends) {
        const std::vector<float> values = read(t, data.at(t.id));
        if (values.empty()) return;
        for (std::size_t i = 0; i < result.size(); ++i)
            result[i] += values.size() == result.size() ? values[i] : values[i % channels];
    }
    write(g.out, data.at(g.out.id), result);
    count(g);
}

}  // namespace vgpu::detail

using namespace vgpu::detail;

extern "C" cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                             cudnnBackendDescriptor_t pack) {
    const char* const call = "cudnnBackendExecute";
    return cudnn_api(call, [&] {
        const auto library = state().cudnn.find(handle, call);
        const auto what = state().dnn_descriptors.find(plan, call);
        const auto given = state().dnn_descriptors.find(pack, call);
        if (!library || !what || !given) return CUDNN_STATUS_NOT_INITIALIZED;
        if (what->kind != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
            given->kind != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, call,
                                "a plan and a variant pack are wanted");
        if (!what->finalized || !given->finalized)
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, call,
                                "the plan or the variant pack is not finalized");
        const DnnDescriptor& engine_used =
            dnn_part(dnn_part(*what, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), CUDNN_ATTR_ENGINECFG_ENGINE);
        const DnnGraph graph = read_dnn_graph(dnn_part(engine_used, CUDNN_ATTR_ENGINE_OPERATION_GRAPH));
        const DnnEngine& engine =
            *find_dnn_engine(dnn_value<std::int64_t>(engine_used, CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
        std::map<std::int64_t, void*> data;
        const auto& ids = given->attributes.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
        for (std::size_t i = 0; i < static_cast<std::size_t>(ids.count); ++i)
            data[dnn_value<std::int64_t>(*given, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i)] =
                dnn_value<void*>(*given, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i);
        const std::vector<const DnnTensor*> tensors = outside(graph);
        for (const DnnTensor* t : tensors) {
            const auto found = data.find(t->id);
            if (found == data.end() || found->second == nullptr)
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, call,
                                    "the variant pack has no address for tensor " + std::to_string(t->id));
            if (reinterpret_cast<std::uintptr_t>(found->second) % static_cast<std::uintptr_t>(t->alignment) !=
                0)
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, call,
                                    "tensor " + std::to_string(t->id) + " is not on " +
                                        std::to_string(t->alignment) + " bytes, as its descriptor says");
            if (t->id != graph.out.id && found->second == data[graph.out.id])
                return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call,
                                    "the result lies where tensor " + std::to_string(t->id) + " is read");
        }
        if (data.size() != tensors.size())
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, call,
                                "the variant pack has a tensor that the graph has not");
        void* const workspace = dnn_value<void*>(*given, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
        if (engine.workspace > 0 &&
            (workspace == nullptr || reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0))
            return refuse_cudnn(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, call,
                                "the plan needs a workspace that starts on 256 bytes");
        vgpu::Work work;
        work.name = call;
        work.run = [graph, &engine, data, workspace] {
            if (engine.workspace > 0) {
                // What an engine leaves in its workspace is its own affair, and not what was there.
                const auto bytes = static_cast<std::size_t>(engine.workspace);
                std::byte* const scratch = vgpu::device_write(workspace, bytes);
                if (scratch == nullptr) return;
                std::memset(scratch, 0xff, bytes);
            }
            compute_dnn(graph, engine, data);
        };
        return cudnn_status(vgpu::enqueue(library->stream, std::move(work)));
    });
}
