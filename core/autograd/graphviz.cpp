#include "core/autograd/graphviz.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <vector>

#include "core/autograd/node.h"

namespace ito::autograd {
namespace {

/// The block that contains the layer "a.b", or "a.b.0" which is one of several: "a".
std::string above(const std::string& layer) {
    auto dot = layer.rfind('.');
    if (dot != std::string::npos && layer.find_first_not_of("0123456789", dot + 1) == std::string::npos)
        dot = layer.rfind('.', dot - 1);
    return dot == std::string::npos ? "" : layer.substr(0, dot);
}

/// True for "a.b.c" in "a.b". Everything is in the network itself, "".
bool is_in(const std::string& layer, const std::string& block) {
    return block.empty() || layer.starts_with(block + ".");
}

/// Collects ops, leaves and edges, and writes them with a frame around each block.
class Drawing {
  public:
    explicit Drawing(const Tensor& root) {
        if (root.is_leaf())
            leaf(root.handle().get(), "");
        else
            op(node_of(root).get());
        while (!stack_.empty()) {
            const Node* node = stack_.back();
            stack_.pop_back();
            const std::size_t to = ids_.at(node);
            for (const auto& edge : node->edges()) {
                if (!edge.node && !edge.leaf) continue;
                const std::size_t from =
                    edge.node ? op(edge.node.get()) : leaf(edge.leaf.get(), node->layer());
                edges_ += fmt::format("  n{} -> n{};\n", from, to);
            }
        }
    }

    std::string text() const {
        std::map<std::string, std::string> contents;
        for (std::size_t id = 0; id < items_.size(); ++id) {
            const Item& item = items_[id];
            const std::string block = has_parts(item.layer) ? item.layer : above(item.layer);
            const std::size_t cut = block.empty() ? 0 : block.size() + 1;
            const std::string name = item.is_op && item.layer != block ? item.layer.substr(cut) : "";
            contents[block] +=
                fmt::format("  n{} [label=\"{}{}{}\", shape={}];\n", id, name, name.empty() ? "" : "\\n",
                            item.label, item.is_op ? "box" : "ellipse");
        }
        std::string dot =
            "digraph autograd {\n  rankdir=BT;\n  node [fontname=\"sans-serif\", fontsize=10];\n"
            "  graph [fontname=\"sans-serif\", fontsize=12, color=gray60, labeljust=l];\n";
        std::vector<std::string> open;
        for (const auto& [block, content] : contents) {
            for (; !open.empty() && !is_in(block, open.back()); open.pop_back()) dot += "  }\n";
            if (!block.empty()) {
                dot += fmt::format("  subgraph \"cluster_{0}\" {{\n  label=\"{0}\";\n", block);
                open.push_back(block);
            }
            dot += content;
        }
        for (std::size_t i = 0; i < open.size(); ++i) dot += "  }\n";
        return dot + edges_ + "}\n";
    }

  private:
    bool has_parts(const std::string& layer) const {
        return std::any_of(items_.begin(), items_.end(),
                           [&](const Item& i) { return is_in(i.layer, layer); });
    }

    struct Item {
        std::string layer, label;
        bool is_op = false;
    };

    std::size_t leaf(const Tensor::Impl* tensor, const std::string& layer) {
        const auto [id, added] = ids_.try_emplace(tensor, ids_.size());
        if (added)
            items_.push_back(
                {layer, fmt::format("{} {}", name_of(tensor->dtype), to_string(tensor->shape)), false});
        return id->second;
    }
    std::size_t op(const Node* node) {
        const auto [id, added] = ids_.try_emplace(node, ids_.size());
        if (added) {
            items_.push_back({node->layer(), fmt::format("{}\\n{}", node->name(), node->shape()), true});
            stack_.push_back(node);
        }
        return id->second;
    }

    std::unordered_map<const void*, std::size_t> ids_;  // places in items_
    std::vector<Item> items_;
    std::vector<const Node*> stack_;
    std::string edges_;
};

}  // namespace

std::string to_dot(const Tensor& root) {
    return Drawing(root).text();
}

}  // namespace ito::autograd
