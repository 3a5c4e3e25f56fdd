// Branches, calls, barriers, and the instructions of whole warps.
#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {
namespace {

const Type u32 = type_named("u32");
const Type u64 = type_named("u64");
const Type pred = type_named("pred");

}  // namespace

void Translator::call(const Instruction& i) {
    count(InstructionKind::control);
    body_.has_calls = true;
    // call{.uni} {(result),} function {, (arguments)} {, prototype}
    std::size_t k = 0;
    std::string result = "nullptr";
    if (i.operands.at(0).kind == OperandKind::vector) {
        const auto& list = i.operands[0].elements;
        if (!list.empty()) {
            result = body_.locals.at(list[0].name);
        }
        ++k;
    }
    const Operand& callee = i.operands.at(k);
    std::string arguments = "nullptr";
    if (i.operands.size() > k + 1 && i.operands[k + 1].kind == OperandKind::vector) {
        std::string list;
        for (const Operand& a : i.operands[k + 1].elements) {
            const auto l = body_.locals.find(a.name);
            if (l == body_.locals.end()) {
                throw Error("argument " + a.name + " is not a .param variable");
            }
            list += (list.empty() ? "" : ", ") + l->second;
        }
        if (!list.empty()) {
            emit("{ unsigned char* const arguments[] = {" + list + "};");
            arguments = "arguments";
        }
    }
    const std::string s = std::to_string(site(i));
    if (callee.name == "vprintf") {
        emit("vprintf_(t, " + result + ", " + arguments + ", " + s + ");");
    } else if (callee.name == "__assertfail") {
        emit("assertfail(t, " + arguments + ", " + s + ");");
    } else if (callee.name == "malloc") {
        emit("st_bytes<U64>(" + result + ", device_malloc(t, ld_bytes<U64>(arguments[0]), " + s + "));");
    } else if (callee.name == "free") {
        emit("device_free(t, ld_bytes<U64>(arguments[0]), " + s + ");");
    } else if (callee.kind == OperandKind::reg) {
        emit("reinterpret_cast<Function>(" + reg(callee) + ")(t, " + result + ", " + arguments + ");");
    } else {
        called_functions_.insert(callee.name);
        emit(function_name(callee.name) + "(t, " + result + ", " + arguments + ");");
    }
    if (arguments == "arguments") {
        emit("}");
    }
}

void Translator::barrier(const Instruction& i) {
    if (i.has("cluster")) {
        throw Error("cluster barriers are not known");
    }
    count(InstructionKind::barrier);
    const std::string s = std::to_string(site(i));
    if (i.has("warp")) {
        emit("bar_warp_sync(t, " + value(i, 0, u32) + ", " + s + ");");
    } else if (i.has("red")) {
        // {d,} barrier {, count}, {!}predicate
        const bool counted = i.operands.size() == 4;
        const std::string operation = i.has("popc") ? "popc" : i.has("and") ? "and_" : "or_";
        const std::string c = "bar_sync(t, " + value(i, 1, u32) + ", " + (counted ? value(i, 2, u32) : "0") +
                              ", " + s + ", Reduction::" + operation + ", " +
                              predicate(i.operands.at(counted ? 3 : 2)) + ")";
        if (i.has("popc")) {
            assign(i.operands[0], u32, c);
        } else {
            assign(i.operands[0], pred, c + " != 0");
        }
    } else if (i.has("arrive")) {
        emit("bar_arrive(t, " + value(i, 0, u32) + ", " + value(i, 1, u32) + ", " + s + ");");
    } else {
        emit("bar_sync(t, " + value(i, 0, u32) + ", " + (i.operands.size() > 1 ? value(i, 1, u32) : "0") +
             ", " + s + ");");
    }
}

void Translator::shuffle(const Instruction& i) {
    if (!i.has("sync")) {
        throw Error("only the .sync form is known");
    }
    count(InstructionKind::shuffle);
    const std::string s = std::to_string(site(i));
    if (i.op == "shfl") {
        emit("{ const ShuffleResult r = shfl_sync(t, Shuffle::" + i.modifiers.at(1) + ", " +
             value(i, 1, u32) + ", " + value(i, 2, u32) + ", " + value(i, 3, u32) + ", " + value(i, 4, u32) +
             ", " + s + ");");
        if (i.operands[0].kind != OperandKind::sink) {
            assign(i.operands[0], u32, "r.value");
        }
        if (!i.operands[0].second.empty() && i.operands[0].second != "_") {
            assign_name(i.operands[0].second, "bool", "r.in_range");
        }
        emit("}");
    } else if (i.op == "vote") {
        const std::string mode = i.modifiers.at(1);
        const std::string c = "vote_sync(t, Vote::" + mode + ", " + predicate(i.operands.at(1)) + ", " +
                              value(i, 2, u32) + ", " + s + ")";
        if (mode == "ballot") {
            assign(i.operands[0], u32, c);
        } else {
            assign(i.operands[0], pred, c + " != 0");
        }
    } else if (i.op == "match") {
        const bool any = i.has("any");
        emit("{ bool all = false;");
        assign(i.operands[0], u32,
               std::string(any ? "match_any_sync" : "match_all_sync") + "(t, " +
                   (i.type().bits == 32 ? "U32(" : "(") + value(i, 1, i.type()) + ")" + (any ? "" : ", all") +
                   ", " + value(i, 2, u32) + ", " + s + ")");
        if (!i.operands[0].second.empty() && i.operands[0].second != "_") {
            assign_name(i.operands[0].second, "bool", "all");
        }
        emit("}");
    } else if (i.op == "redux") {
        static const std::map<std::string, std::string> names = {
            {"add", "add"}, {"min", "min"}, {"max", "max"}, {"and", "and_"}, {"or", "or_"}, {"xor", "xor_"}};
        const auto name = names.find(i.modifiers.at(1));
        if (name == names.end() || i.type().is_float()) {
            throw Error("this reduction is not known");
        }
        assign(i.operands[0], u32,
               "redux_sync(t, Reduce::" + name->second + ", " + (i.type().is_signed() ? "true" : "false") +
                   ", " + value(i, 1, u32) + ", " + value(i, 2, u32) + ", " + s + ")");
    } else {  // elect
        emit("{ bool elected = false;");
        assign(i.operands[0], u32, "elect_sync(t, elected, " + value(i, 1, u32) + ", " + s + ")");
        if (!i.operands[0].second.empty()) {
            assign_name(i.operands[0].second, "bool", "elected");
        }
        emit("}");
    }
}

void Translator::add_control() {
    handlers_["bra"] = [this](const Instruction& i) {
        emit("goto " + label_name(i.operands.at(0).name) + ";");
        count(InstructionKind::control);
        body_.labels_used.insert(i.operands[0].name);
        body_.new_block = body_.new_block || i.guard.empty();
        return true;
    };
    handlers_["brx"] = [this](const Instruction& i) {
        const auto targets = body_.branch_targets.find(i.operands.at(1).name);
        if (targets == body_.branch_targets.end()) {
            throw Error("branch targets " + i.operands[1].name + " are not known");
        }
        emit("switch (" + value(i, 0, u32) + ") {");
        count(InstructionKind::control);
        std::size_t k = 0;
        for (const std::string& target : targets->second) {
            emit("case " + std::to_string(k++) + ": goto " + label_name(target) + ";");
            body_.labels_used.insert(target);
        }
        emit("default: bad_call(t, " + std::to_string(site(i)) + "); }");
        body_.new_block = body_.new_block || i.guard.empty();
        return true;
    };
    handlers_["call"] = [this](const Instruction& i) { return call(i), true; };
    handlers_["ret"] = [this](const Instruction&) {
        emit("return;");
        count(InstructionKind::control);
        return true;
    };
    handlers_["exit"] = [this](const Instruction&) {
        emit(body_.is_entry ? "return;" : "exit_thread(t);");
        count(InstructionKind::control);
        return true;
    };
    for (const char* op : {"trap", "brkpt"}) {
        handlers_[op] = [this](const Instruction& i) {
            emit("trap(t, " + std::to_string(site(i)) + ");");
            count(InstructionKind::control);
            return true;
        };
    }
    handlers_["nanosleep"] = [this](const Instruction&) {
        emit("yield(t);");
        count(InstructionKind::control);
        return true;
    };
    for (const char* op : {"bar", "barrier"}) {
        handlers_[op] = [this](const Instruction& i) { return barrier(i), true; };
    }
    for (const char* op : {"shfl", "vote", "match", "redux", "elect"}) {
        handlers_[op] = [this](const Instruction& i) { return shuffle(i), true; };
    }
    handlers_["activemask"] = [this](const Instruction& i) {
        count(InstructionKind::shuffle);
        assign(i.operands[0], u32, "activemask(t)");
        return true;
    };
}

}  // namespace ptx2cpp
