#include "core/autograd/graphviz.h"

#include <unordered_map>
#include <vector>

#include "core/autograd/node.h"

namespace ito::autograd {

std::string to_dot(const Tensor& root) {
    std::string dot = "digraph autograd {\n  rankdir=BT;\n  node [fontname=\"sans-serif\", fontsize=10];\n";
    std::unordered_map<const void*, std::size_t> ids;
    std::vector<const Node*> stack;
    const auto leaf = [&](const Tensor::Impl* tensor) {
        const auto [id, added] = ids.try_emplace(tensor, ids.size());
        if (added)
            dot += fmt::format("  n{} [label=\"{} {}\", shape=ellipse];\n", id->second,
                               name_of(tensor->dtype), to_string(tensor->shape));
        return id->second;
    };
    const auto op = [&](const Node* node) {
        const auto [id, added] = ids.try_emplace(node, ids.size());
        if (added) {
            dot += fmt::format("  n{} [label=\"{}\\n{}\", shape=box];\n", id->second, node->name(),
                               node->shape());
            stack.push_back(node);
        }
        return id->second;
    };
    if (root.is_leaf())
        leaf(root.handle().get());
    else
        op(root.impl().node.get());
    while (!stack.empty()) {
        const Node* node = stack.back();
        stack.pop_back();
        const std::size_t to = ids.at(node);
        for (const auto& edge : node->edges()) {
            if (!edge.node && !edge.leaf) continue;
            const std::size_t from = edge.node ? op(edge.node.get()) : leaf(edge.leaf.get());
            dot += fmt::format("  n{} -> n{};\n", from, to);
        }
    }
    return dot + "}\n";
}

}  // namespace ito::autograd
