// Conversions, moves, loads, stores, atomics, addresses.
#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {
namespace {

const Type u32 = type_named("u32");
const Type u64 = type_named("u64");
const Type f32 = type_named("f32");
const Type pred = type_named("pred");

}  // namespace

void Translator::convert(const Instruction& i) {
    count(InstructionKind::conversion);
    const std::vector<Type> types = i.types();
    const std::string fl = flags(i);
    if (i.has("pack")) {  // cvt.pack.sat.d.s32{.b32}
        const Type to = types.at(0);
        std::string arguments = value(i, 1, type_named("s32")) + ", " + value(i, 2, type_named("s32"));
        if (to.bits == 8) {
            arguments += ", " + (i.operands.size() > 3 ? value(i, 3, u32) : std::string("0"));
        } else if (to.bits != 16) {
            throw Error("packing into " + to.name + " is not known");
        }
        assign(i.operands[0], u32,
               (to.bits == 8 ? "cvt_pack_sat8<" : "cvt_pack_sat<") + to.tag() + ">(" + arguments + ")");
        return;
    }
    if (types.size() != 2) {
        throw Error("this conversion is not known");
    }
    const Type to = types[0];
    const Type from = types[1];
    if (to.is("tf32")) {
        assign(i.operands[0], u32, "cvt_tf32<" + fl + ">(" + value(i, 1, from) + ")");
        return;
    }
    if (to.is_half2()) {
        if (!from.is("f32") || i.operands.size() != 3) {
            throw Error("this conversion is not known");
        }
        assign(i.operands[0], u32,
               "cvt_pack<" + to.tag() + ", " + fl + ">(" + value(i, 1, f32) + ", " + value(i, 2, f32) + ")");
        return;
    }
    const bool integral = i.has("rni") || i.has("rzi") || i.has("rmi") || i.has("rpi");
    std::string function;
    if (to.is_float()) {
        function = !from.is_float() ? "cvt_if" : integral ? "cvt_round" : "cvt_ff";
    } else {
        function = from.is_float() ? "cvt_fi" : "cvt_ii";
    }
    std::string source = value(i, 1, from);
    if (!from.is_float()) {
        source = from.tag() + "(" + source + ")";  // a wider register: only its low bits count
    }
    assign(i.operands[0], to,
           function + "<" + to.tag() + ", " + from.tag() + ", " + fl + ">(" + source + ")");
}

void Translator::move(const Instruction& i) {
    const Type type = i.type();
    const Operand& to = i.operands.at(0);
    const Operand& from = i.operands.at(1);
    count(InstructionKind::integer);
    if (to.kind == OperandKind::vector) {  // unpack
        const int bits = type.bits / static_cast<int>(to.elements.size());
        const Type part = type_named("b" + std::to_string(bits));
        const std::string whole = type.bits == 128 ? "U128" : "U" + std::to_string(type.bits);
        emit("{ const " + whole + " whole = " + value(from, type_named("b" + std::to_string(type.bits))) +
             ";");
        for (std::size_t k = 0; k < to.elements.size(); ++k) {
            if (to.elements[k].kind != OperandKind::sink) {
                assign(to.elements[k], part,
                       part.tag() + "(whole >> " + std::to_string(bits * static_cast<int>(k)) + ")");
            }
        }
        emit("}");
        return;
    }
    if (from.kind == OperandKind::vector) {  // pack
        const int bits = type.bits / static_cast<int>(from.elements.size());
        const Type part = type_named("b" + std::to_string(bits));
        const Type whole = type_named("b" + std::to_string(type.bits));
        std::string expression;
        for (std::size_t k = 0; k < from.elements.size(); ++k) {
            expression += (k == 0 ? "" : " | ") + whole.tag() + "(" + part.tag() + "(" +
                          value(from.elements[k], part) + ")) << " +
                          std::to_string(bits * static_cast<int>(k));
        }
        assign(to, whole, expression);
        return;
    }
    assign(to, type, value(from, type));
}

std::string Translator::space_of(const Instruction& i) const {
    for (const std::string& m : i.modifiers) {
        const std::string base = m.substr(0, m.find(':'));
        if (m == "shared::cluster") {
            throw Error("distributed shared memory is not known");
        }
        if (base == "global" || base == "shared" || base == "local" || base == "param") {
            return base;
        }
        if (base == "const") {
            return "global";  // constants live in device memory here
        }
    }
    return "generic";
}

void Translator::load_store(const Instruction& i, bool load) {
    const Type type = i.type();
    const std::string space = space_of(i);
    const Operand& address = i.operands.at(load ? 1 : 0);
    const Operand& data = i.operands.at(load ? 0 : 1);
    const std::size_t lanes = i.has("v2") ? 2 : i.has("v4") ? 4 : i.has("v8") ? 8 : 1;
    const bool is_vector = data.kind == OperandKind::vector;
    if (is_vector && data.elements.size() != lanes) {
        throw Error("the vector has " + std::to_string(data.elements.size()) + " elements");
    }
    if (static_cast<std::size_t>(type.bits) * lanes > 128) {
        throw Error("accesses of more than 16 bytes are not known");
    }
    const std::string element = type.storage();
    const std::string whole = is_vector ? "Vector<" + element + ", " + std::to_string(lanes) + ">" : element;

    // Parameters with a name are plain bytes; a .param address in a register is checked.
    std::string bytes;
    if (space == "param" && !address.name.empty() && !address.base_is_reg) {
        const std::string offset = std::to_string(static_cast<std::int64_t>(address.value));
        if (const auto l = body_.locals.find(address.name); l != body_.locals.end()) {
            bytes = l->second + " + " + offset;
        } else if (const auto p = body_.parameters.find(address.name); p != body_.parameters.end()) {
            bytes = body_.is_entry ? "param + " + std::to_string(p->second.offset + address.value)
                                   : "argument[" + std::to_string(p->second.offset) + "] + " + offset;
        } else if (address.name == body_.result) {
            bytes = "result + " + offset;
        } else {
            throw Error("parameter " + address.name + " is not known");
        }
        count(InstructionKind::integer);
    } else {
        count(space == "shared"                      ? InstructionKind::shared_memory
              : space == "local" || space == "param" ? InstructionKind::local_memory
                                                     : InstructionKind::global_memory);
    }
    const bool strong =
        i.has("volatile") || i.has("relaxed") || i.has("acquire") || i.has("release") || i.has("mmio");
    const std::string form = "<Space::" + space + ", " + whole + (strong ? ", true" : "") + ">(t, ";
    std::string where;
    if (bytes.empty()) {
        where =
            address_value(address, StateSpace::global, space == "shared") + ", " + std::to_string(site(i));
    }
    if (load) {
        const std::string call =
            bytes.empty() ? "ld" + form + where + ")" : "ld_bytes<" + whole + ">(" + bytes + ")";
        if (!is_vector) {
            assign(data, type, call);
            return;
        }
        emit("{ const auto v = " + call + ";");
        for (std::size_t k = 0; k < lanes; ++k) {
            if (data.elements[k].kind != OperandKind::sink) {
                assign(data.elements[k], type, "v.x[" + std::to_string(k) + "]");
            }
        }
        emit("}");
        return;
    }
    std::string stored;
    if (is_vector) {
        stored = whole + "{{";
        for (std::size_t k = 0; k < lanes; ++k) {
            stored += (k == 0 ? "" : ", ") + element + "(" + value(data.elements[k], type) + ")";
        }
        stored += "}}";
    } else {
        stored = value(data, type);
    }
    emit(bytes.empty() ? "st" + form + where + ", " + stored + ");"
                       : "st_bytes<" + whole + ">(" + bytes + ", " + stored + ");");
}

void Translator::atomic(const Instruction& i, bool result) {
    const Type type = i.type();
    const std::string space = space_of(i);
    static const std::map<std::string, std::string> operations = {
        {"add", "add"},  {"min", "min"},   {"max", "max"}, {"and", "and_"}, {"or", "or_"},
        {"xor", "xor_"}, {"exch", "exch"}, {"inc", "inc"}, {"dec", "dec"},  {"cas", "cas"}};
    std::string operation;
    for (const std::string& m : i.modifiers) {
        if (const auto it = operations.find(m); it != operations.end()) {
            operation = it->second;
        }
        if (m == "v2" || m == "v4" || m == "v8") {
            throw Error("vector atomics are not known");
        }
    }
    if (operation.empty() || type.bits > 64) {
        throw Error("this atomic is not known");
    }
    count(InstructionKind::atomic);
    const std::size_t first = result ? 1 : 0;
    std::string call = "atom<Space::" + space + ", " + type.tag() + ", Atomic::" + operation + ">(t, " +
                       address_value(i.operands.at(first), StateSpace::global, space == "shared") + ", " +
                       std::to_string(site(i)) + ", " + value(i, first + 1, type);
    if (operation == "cas") {
        call += ", " + value(i, first + 2, type);
    }
    call += ")";
    if (result) {
        assign(i.operands[0], type, call);
    } else {
        emit(call + ";");
    }
}

void Translator::add_conversions() {
    handlers_["cvt"] = [this](const Instruction& i) { return convert(i), true; };
    handlers_["mov"] = [this](const Instruction& i) { return move(i), true; };
    handlers_["cvta"] = [this](const Instruction& i) {
        const bool to = i.has("to");
        const std::string space = space_of(i);
        const Type type = i.type();
        count(InstructionKind::integer);
        const std::string source = value(i, 1, type);
        if (space == "global") {
            assign(i.operands[0], type, source);
        } else if (to) {
            assign(i.operands[0], type, "U64(" + source + ") & ~space_mask");
        } else {
            assign(i.operands[0], type, "U64(" + source + ") | space_" + space);
        }
        return true;
    };
    handlers_["isspacep"] = [this](const Instruction& i) {
        const std::string space = space_of(i);
        count(InstructionKind::integer);
        const bool constant = i.has("const");  // our constants are global; nothing else is asked of them
        assign(i.operands[0], pred,
               constant ? std::string("false")
                        : "is_space(" + value(i, 1, u64) + ", " +
                              (space == "global" ? "0" : "space_" + space) + ")");
        return true;
    };
    handlers_["mapa"] = [this](const Instruction& i) {
        if (i.operands.at(2).kind != OperandKind::integer || i.operands[2].value != 0) {
            throw Error("clusters of more than one block are not known");
        }
        count(InstructionKind::integer);
        assign(i.operands[0], i.type(), value(i, 1, i.type()));
        return true;
    };
}

void Translator::add_memory() {
    for (const char* op : {"ld", "ldu"}) {
        handlers_[op] = [this](const Instruction& i) { return load_store(i, true), true; };
    }
    handlers_["st"] = [this](const Instruction& i) { return load_store(i, false), true; };
    handlers_["atom"] = [this](const Instruction& i) { return atomic(i, true), true; };
    handlers_["red"] = [this](const Instruction& i) {
        if (i.has("async")) {
            return false;
        }
        return atomic(i, false), true;
    };
    for (const char* op : {"membar", "fence"}) {
        handlers_[op] = [this](const Instruction&) {
            count(InstructionKind::control);
            emit("memory_fence();");
            return true;
        };
    }
    // Hints without effect on the result.
    for (const char* op :
         {"prefetch", "prefetchu", "applypriority", "discard", "pmevent", "griddepcontrol", "setmaxnreg"}) {
        handlers_[op] = [this](const Instruction&) {
            count(InstructionKind::control);
            return true;
        };
    }
    handlers_["createpolicy"] = [this](const Instruction& i) {
        count(InstructionKind::integer);
        assign(i.operands[0], u64, "0");
        return true;
    };
    handlers_["cp"] = [this](const Instruction& i) {
        if (!i.has("async") || i.has("bulk") || i.has("mbarrier") || i.has("reduce")) {
            return false;
        }
        count(InstructionKind::global_memory);
        if (i.has("commit_group")) {
            emit("cp_async_commit(t);");
        } else if (i.has("wait_group")) {
            emit("cp_async_wait_group(t, " + value(i, 0, u32) + ");");
        } else if (i.has("wait_all")) {
            emit("cp_async_wait_all(t);");
        } else {
            const std::string bytes = value(i, 2, u32);
            std::string source = bytes;
            // A fourth operand: bytes to read (the rest is zero), or a predicate: nothing is read.
            std::size_t more = 3;
            if (i.operands.size() > more && i.operands[more].kind == OperandKind::reg &&
                find_register(i.operands[more].name)->type == "bool") {
                source = "(" + predicate(i.operands[more]) + " ? 0u : " + bytes + ")";
            } else if (i.operands.size() > more && !i.has("L2::cache_hint")) {
                source = value(i, more, u32);
            } else if (i.operands.size() > more + 1) {
                source = value(i, more, u32);
            }
            emit("cp_async(t, U32(" + address_value(i.operands.at(0), StateSpace::shared, true) + "), " +
                 address_value(i.operands.at(1), StateSpace::global, false) + ", " + bytes + ", " + source +
                 ", " + std::to_string(site(i)) + ");");
        }
        return true;
    };
}

}  // namespace ptx2cpp
