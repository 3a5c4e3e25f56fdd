// Operands as C++ expressions, and the way from an opcode to its handler.
#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {
namespace {

std::string hex(std::uint64_t value, int bits) {
    char text[40];
    if (bits < 64) {
        value &= (std::uint64_t{1} << bits) - 1;
    }
    std::snprintf(text, sizeof(text), bits > 32 ? "0x%llxul" : "0x%llxu",
                  static_cast<unsigned long long>(value));
    return text;
}

}  // namespace

std::string Translator::special(const std::string& name) const {
    const std::size_t dot = name.find('.');
    const std::string base = name.substr(0, dot);
    const std::string axis = dot == std::string::npos      ? ""
                             : name.substr(dot + 1) == "x" ? "[0]"
                             : name.substr(dot + 1) == "y" ? "[1]"
                             : name.substr(dot + 1) == "z" ? "[2]"
                                                           : "";
    static const std::map<std::string, std::string> vectors = {{"%tid", "t.tid"},
                                                               {"%ntid", "t.block->block_size"},
                                                               {"%ctaid", "t.block->index"},
                                                               {"%nctaid", "t.block->grid_size"},
                                                               {"%clusterid", "t.block->index"},
                                                               {"%nclusterid", "t.block->grid_size"}};
    static const std::map<std::string, std::string> scalars = {
        {"%laneid", "t.lane()"},
        {"%warpid", "t.warp()"},
        {"%nwarpid", "warp_count(t)"},
        {"%smid", "smid(t)"},
        {"%nsmid", "nsmid()"},
        {"%gridid", "U64{1}"},
        {"%clock", "clock32(t)"},
        {"%clock_hi", "U32(clock64(t) >> 32)"},
        {"%clock64", "clock64(t)"},
        {"%globaltimer", "globaltimer(t)"},
        {"%globaltimer_lo", "U32(globaltimer(t))"},
        {"%globaltimer_hi", "U32(globaltimer(t) >> 32)"},
        {"%lanemask_eq", "(1u << t.lane())"},
        {"%lanemask_lt", "((1u << t.lane()) - 1)"},
        {"%lanemask_le", "((2u << t.lane()) - 1)"},
        {"%lanemask_gt", "~((2u << t.lane()) - 1)"},
        {"%lanemask_ge", "~((1u << t.lane()) - 1)"},
        {"%dynamic_smem_size", "t.block->dynamic_shared"},
        {"%total_smem_size", "total_shared(t)"},
        {"%aggr_smem_size", "total_shared(t)"},
        {"%is_explicit_cluster", "false"},
        {"%cluster_ctaid", "0u"},
        {"%cluster_nctaid", "1u"},
        {"%cluster_ctarank", "0u"},
        {"%cluster_nctarank", "1u"},
        {"WARP_SZ", "32u"}};
    if (const auto it = vectors.find(base); it != vectors.end() && !axis.empty()) {
        return it->second + axis;
    }
    if (const auto it = scalars.find(base); it != scalars.end()) {
        return it->second;
    }
    throw Error("special register " + name + " is not known");
}

// The address of a variable: a device address for global and constant ones, an offset for shared ones.
std::string Translator::symbol(const std::string& name) {
    const Variable* v = nullptr;
    if (const auto it = body_.variables.find(name); it != body_.variables.end()) {
        v = &it->second;
    } else if (const auto module = variables_.find(name); module != variables_.end()) {
        v = &module->second;
        body_.uses_module_shared =
            body_.uses_module_shared || (v->space == StateSpace::shared && !v->dynamic);
    }
    if (v != nullptr) {
        switch (v->space) {
            case StateSpace::shared:
                return v->dynamic ? "t.block->static_shared" : std::to_string(v->offset) + "u";
            case StateSpace::local:
                return "reinterpret_cast<U64>(" + body_.locals.at(name) + ")";
            default:
                return global_name(name);
        }
    }
    if (const auto p = body_.parameters.find(name); p != body_.parameters.end()) {
        return body_.is_entry ? "reinterpret_cast<U64>(param + " + std::to_string(p->second.offset) + ")"
                              : "reinterpret_cast<U64>(argument[" + std::to_string(p->second.offset) + "])";
    }
    if (const auto l = body_.locals.find(name); l != body_.locals.end()) {
        return "reinterpret_cast<U64>(" + l->second + ")";
    }
    if (declared_functions_.count(name) != 0) {
        return "reinterpret_cast<U64>(&" + function_name(name) + ")";
    }
    throw Error("symbol " + name + " is not known");
}

std::string Translator::reg(const Operand& o) {
    const Register* r = find_register(o.name);
    if (r == nullptr) {
        throw Error("register " + o.name + " is not declared");
    }
    return r->name;
}

std::string Translator::predicate(const Operand& o) {
    if (o.kind == OperandKind::integer) {
        return o.value != 0 ? "true" : "false";
    }
    const Register* r = find_register(o.name);
    if (r == nullptr || r->type != "bool") {
        throw Error(o.name + " is not a predicate");
    }
    return (o.negated ? "!" : "") + r->name;
}

std::string Translator::value(const Operand& o, const Type& type) {
    const std::string wanted = type.storage();
    switch (o.kind) {
        case OperandKind::reg: {
            if (type.is_pred()) {
                return predicate(o);
            }
            const Register* r = find_register(o.name);
            const bool wants_real = wanted == "F32" || wanted == "F64";
            const bool is_real = r->type == "F32" || r->type == "F64";
            if (r->type == wanted || (!wants_real && !is_real)) {
                return r->name;
            }
            return "as<" + wanted + ">(" + r->name + ")";
        }
        case OperandKind::special:
            return special(o.name);
        case OperandKind::integer:
            if (type.is_pred()) {
                return o.value != 0 ? "true" : "false";
            }
            if (wanted == "F32" || wanted == "F64") {
                return "as<" + wanted + ">(" + hex(o.value, type.bits) + ")";
            }
            return type.is_signed() && type.bits <= 64 && wanted[0] == 'S'
                       ? wanted + "(" + hex(o.value, type.bits) + ")"
                       : hex(o.value, type.bits);
        case OperandKind::real32:
            return wanted == "F64"   ? "F64(as<F32>(" + hex(o.value, 32) + "))"
                   : wanted == "F32" ? "as<F32>(" + hex(o.value, 32) + ")"
                                     : hex(o.value, 32);
        case OperandKind::real64:
            return wanted == "F64"   ? "as<F64>(" + hex(o.value, 64) + ")"
                   : wanted == "F32" ? "F32(as<F64>(" + hex(o.value, 64) + "))"
                                     : hex(o.value, 64);
        case OperandKind::symbol:
            return o.value != 0 ? symbol(o.name) + " + " + hex(o.value, type.bits) : symbol(o.name);
        default:
            throw Error("unexpected operand");
    }
}

std::string Translator::value(const Instruction& i, std::size_t index, const Type& type) {
    if (index >= i.operands.size()) {
        throw Error("expected more operands");
    }
    return value(i.operands[index], type);
}

std::string Translator::address_value(const Operand& o, StateSpace space, bool narrow) {
    if (o.kind != OperandKind::address) {
        throw Error("expected an address");
    }
    (void)space;
    const std::string offset = o.value == 0 ? "" : " + " + hex(o.value, narrow ? 32 : 64);
    if (o.name.empty()) {
        return hex(o.value, narrow ? 32 : 64);
    }
    if (o.base_is_reg) {
        const Register* r = find_register(o.name);
        return (narrow && r->type == "U64" ? "U32(" + r->name + ")" : r->name) + offset;
    }
    return symbol(o.name) + offset;
}

void Translator::assign_name(const std::string& destination, const std::string& type,
                             const std::string& expression) {
    if (destination == "_") {
        emit(expression + ";");
        return;
    }
    const Register* r = find_register(destination);
    if (r == nullptr) {
        throw Error("register " + destination + " is not declared");
    }
    const auto real = [](const std::string& t) { return t == "F32" || t == "F64"; };
    if (r->type != type && (real(r->type) || real(type))) {
        emit(r->name + " = as<" + r->type + ">(" + expression + ");");
    } else {
        emit(r->name + " = " + expression + ";");
    }
}

void Translator::assign(const Operand& destination, const Type& type, const std::string& expression) {
    if (destination.kind == OperandKind::sink) {
        assign_name("_", "", expression);
    } else if (destination.kind == OperandKind::reg) {
        assign_name(destination.name, type.is_pred() ? "bool" : type.storage(), expression);
    } else {
        throw Error("the destination is not a register");
    }
}

void Translator::count(InstructionKind kind) {
    ++blocks_.back()[static_cast<std::size_t>(kind)];
}

std::string Translator::flags(const Instruction& i) {
    static const std::map<std::string, std::string> names = {{"rz", "RZ"},    {"rm", "RM"},
                                                             {"rp", "RP"},    {"rna", "RNA"},
                                                             {"rzi", "RZ"},   {"rmi", "RM"},
                                                             {"rpi", "RP"},   {"ftz", "FTZ"},
                                                             {"sat", "SAT"},  {"relu", "RELU"},
                                                             {"NaN", "NANS"}, {"xorsign", "XORSIGN"},
                                                             {"abs", "ABS"},  {"satfinite", "SATFINITE"}};
    std::string result;
    for (const std::string& m : i.modifiers) {
        if (const auto it = names.find(m); it != names.end()) {
            result += (result.empty() ? "" : " | ") + it->second;
        }
    }
    return result.empty() ? "0" : result;
}

// name<type, flags>(operands first .. first + count)
std::string Translator::floating_call(const char* function, const Instruction& i, const Type& type,
                                      std::size_t first, std::size_t count) {
    std::string result = std::string(function) + "<" + type.tag() + ", " + flags(i) + ">(";
    for (std::size_t k = 0; k < count; ++k) {
        result += (k == 0 ? "" : ", ") + value(i, first + k, type);
    }
    return result + ")";
}

void Translator::translate(const Instruction& i) {
    open_block();
    const bool jumps = i.op == "bra" || i.op == "brx";
    const bool forward = i.op == "bra" && body_.labels_defined.count(i.operands.at(0).name) == 0;
    bool chosen = false;
    for (const Mutant& m : mutants_of(i, forward)) {
        const int number = static_cast<int>(mutants_.size());
        mutants_.push_back({body_.name, body_.where.file, i.text, m.change, body_.where.line});
        if (mutated_.count(number) != 0) {
            emit("if (mutant == " + std::to_string(number) + ") { reach_mutant();");
            if (!m.removed) {
                translate_one(m.instruction);
            }
            emit("} else");
            chosen = true;
        }
    }
    if (!chosen) {
        translate_one(i);
        return;
    }
    emit("{");
    translate_one(i);
    emit("}");
    body_.new_block = body_.new_block || jumps;
}

void Translator::translate_one(const Instruction& i) {
    const auto handler = handlers_.find(i.op);
    if (handler == handlers_.end()) {
        throw Error("not known");
    }
    open_block();
    const bool jumps = i.op == "bra" || i.op == "brx";
    if (i.guard.empty()) {
        if (!handler->second(i)) {
            throw Error("this form is not known");
        }
    } else {
        Operand guard;
        guard.kind = OperandKind::reg;
        guard.name = i.guard;
        guard.negated = i.guard_negated;
        emit("if (" + predicate(guard) + ") {");
        if (!handler->second(i)) {
            throw Error("this form is not known");
        }
        emit("}");
        body_.new_block = body_.new_block || jumps || i.op == "ret" || i.op == "exit";
    }
}

}  // namespace ptx2cpp
