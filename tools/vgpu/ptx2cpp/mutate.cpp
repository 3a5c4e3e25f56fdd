#include "tools/vgpu/ptx2cpp/mutate.h"

#include <algorithm>
#include <map>

namespace ptx2cpp {
namespace {

const std::map<std::string, std::string>& other_operation() {
    static const std::map<std::string, std::string> map = {
        {"add", "sub"}, {"sub", "add"}, {"min", "max"}, {"max", "min"}, {"and", "or"},
        {"or", "and"},  {"xor", "or"},  {"sin", "cos"}, {"cos", "sin"}, {"shl", "shr"},
    };
    return map;
}

const std::map<std::string, std::string>& other_comparison() {
    static const std::map<std::string, std::string> map = {
        {"lt", "le"},   {"le", "lt"},   {"gt", "ge"},   {"ge", "gt"},   {"eq", "ne"},
        {"ne", "eq"},   {"lo", "ls"},   {"ls", "lo"},   {"hi", "hs"},   {"hs", "hi"},
        {"ltu", "leu"}, {"leu", "ltu"}, {"gtu", "geu"}, {"geu", "gtu"},
    };
    return map;
}

class Collector {
  public:
    Collector(const Instruction& original, bool forward) : i_(original), forward_(forward) {}

    std::vector<Mutant> collect() {
        guards();
        operations();
        operands();
        memory();
        synchronisation();
        return std::move(mutants_);
    }

  private:
    bool is(std::initializer_list<const char*> ops) const {
        return std::any_of(ops.begin(), ops.end(), [&](const char* op) { return i_.op == op; });
    }
    void add(const std::string& change, Instruction mutant) {
        mutants_.push_back({change, false, std::move(mutant)});
    }
    void remove(const std::string& change) { mutants_.push_back({change, true, {}}); }

    Instruction with_op(const std::string& op) const {
        Instruction m = i_;
        m.op = op;
        return m;
    }
    Instruction with_modifier(const std::string& from, const std::string& to) const {
        Instruction m = i_;
        for (std::string& modifier : m.modifiers) {
            if (modifier == from) {
                modifier = to;
                break;
            }
        }
        return m;
    }

    void guards() {
        if (i_.guard.empty()) {
            return;
        }
        if (i_.op == "bra") {
            remove("branch never taken");
        }
        if (i_.op != "bra" || forward_) {
            Instruction m = i_;
            m.guard.clear();
            add(i_.op == "bra" ? "branch always taken" : "predicate ignored", m);
        }
    }

    void operations() {
        const auto other = other_operation().find(i_.op);
        if (other != other_operation().end() && !i_.has("cc")) {
            add(other->second + " for " + i_.op, with_op(other->second));
        }
        if (i_.op == "mul" && (i_.has("wide") || i_.has("hi"))) {
            remove("no " + i_.op);
        } else if (i_.op == "mul") {
            Instruction m = with_op("add");
            std::erase(m.modifiers, "lo");
            add("add for mul", m);
        }
        if (is({"rcp", "rsqrt", "sqrt", "ex2", "lg2", "tanh", "neg", "abs"})) {
            Instruction m = with_op("mov");
            m.modifiers = {i_.type().name};
            add("no " + i_.op, m);
        }
        if (i_.op == "cvt" && i_.has("rn") && (i_.has("bf16") || i_.has("bf16x2") || i_.has("f16"))) {
            add("rz for rn", with_modifier("rn", "rz"));
        }
        if (i_.op == "setp") {
            for (const std::string& modifier : i_.modifiers) {
                const auto comparison = other_comparison().find(modifier);
                if (comparison != other_comparison().end()) {
                    add(comparison->second + " for " + modifier, with_modifier(modifier, comparison->second));
                    break;
                }
            }
        }
    }

    void swap(std::size_t a, std::size_t b, const char* change) {
        Instruction m = i_;
        std::swap(m.operands.at(a), m.operands.at(b));
        add(change, m);
    }

    void operands() {
        if (is({"fma", "mad"})) {
            Instruction m = with_op("mul");
            m.operands.pop_back();
            if (i_.op == "fma" || !i_.has("cc")) {
                add("no addend", m);
            }
            if (!i_.has("wide")) {
                swap(2, 3, "addend and factor swapped");
            }
        }
        if (i_.op == "selp") {
            swap(1, 2, "choices swapped");
        }
        if (is({"shl", "shr"}) && i_.operands.at(2).kind == OperandKind::integer) {
            Instruction m = i_;
            ++m.operands[2].value;
            add("shift by one more", m);
        }
        if (i_.op == "shfl" && i_.operands.at(2).kind == OperandKind::integer) {
            Instruction m = i_;
            std::uint64_t& distance = m.operands[2].value;
            distance = distance > 1 ? distance / 2 : distance + 1;
            add("shuffle distance " + std::to_string(distance) + " for " +
                    std::to_string(i_.operands[2].value),
                m);
        }
    }

    void memory() {
        const bool load = i_.op == "ld", store = i_.op == "st";
        if ((load || store) && !i_.has("param")) {
            const std::size_t vector = i_.has("v4") ? 4 : i_.has("v2") ? 2 : 1;
            Instruction m = i_;
            m.operands.at(load ? 1 : 0).value += vector * static_cast<std::size_t>(i_.type().bits) / 8;
            add("address one element on", m);
        }
        if ((store && !i_.has("param")) || i_.op == "red") {
            remove("no " + i_.op);
        }
    }

    void synchronisation() {
        if (is({"bar", "barrier"}) && i_.has("sync")) {
            remove("no " + i_.text);
        }
        if (i_.op == "cp" && (i_.has("wait_group") || i_.has("wait_all"))) {
            remove("no wait for copies");
        }
    }

    const Instruction& i_;
    bool forward_;
    std::vector<Mutant> mutants_;
};

}  // namespace

std::vector<Mutant> mutants_of(const Instruction& i, bool forward) {
    return Collector(i, forward).collect();
}

}  // namespace ptx2cpp
