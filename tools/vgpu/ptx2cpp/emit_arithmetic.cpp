// Arithmetic, logic, comparison, selection.
#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {
namespace {

const Type u32 = type_named("u32");
const Type pred = type_named("pred");

std::string angle(const std::string& name, const Type& type) {
    return name + "<" + type.tag() + ">";
}

}  // namespace

void Translator::arithmetic(const Instruction& i) {
    const Type type = i.type();
    const bool subtract = i.op == "sub" || i.op == "subc";
    const std::string a = value(i, 1, type);
    const std::string b = value(i, 2, type);
    if (type.is_float()) {
        count(InstructionKind::floating);
        assign(i.operands[0], type, floating_call(subtract ? "fsub" : "fadd", i, type, 1, 2));
        return;
    }
    count(InstructionKind::integer);
    if (type.is("u16x2") || type.is("s16x2")) {
        const std::string h = type.is("u16x2") ? "U16" : "S16";
        assign(i.operands[0], type, "by_halves<" + h + ", iadd<" + h + ">>(" + a + ", " + b + ")");
    } else if (i.has("cc") || i.op == "addc" || i.op == "subc") {
        body_.needs_carry = true;
        const bool uses = i.op == "addc" || i.op == "subc";
        const std::string out = i.has("cc") ? "carry" : "ignored_carry";
        if (!i.has("cc")) {
            emit("{ bool ignored_carry;");
        }
        assign(i.operands[0], type,
               angle(subtract ? "sub_borrow" : "add_carry", type) + "(" + a + ", " + b + ", " +
                   (uses ? "carry" : "false") + ", " + out + ")");
        if (!i.has("cc")) {
            emit("}");
        }
    } else {
        const std::string name = std::string(subtract ? "isub" : "iadd") + (i.has("sat") ? "_sat" : "");
        assign(i.operands[0], type, angle(name, type) + "(" + a + ", " + b + ")");
    }
}

void Translator::multiply(const Instruction& i, bool add) {
    const Type type = i.type();
    if (type.is_float()) {
        count(InstructionKind::floating);
        assign(i.operands[0], type, floating_call(add ? "fma_" : "fmul", i, type, 1, add ? 3 : 2));
        return;
    }
    count(InstructionKind::integer);
    const bool wide = i.has("wide");
    const Type result = wide ? type_named(type.name.substr(0, 1) + std::to_string(type.bits * 2)) : type;
    std::string arguments = value(i, 1, type) + ", " + value(i, 2, type);
    if (add) {
        arguments += ", " + value(i, 3, result);
    }
    const std::string base = i.op == "mul24" || i.op == "mad24" ? i.op : add ? "mad" : "mul";
    const std::string form = wide ? "_wide" : i.has("hi") ? "_hi" : "_lo";
    if (i.op == "madc" || i.has("cc")) {
        body_.needs_carry = true;
        const std::string product =
            angle("mul" + form, type) + "(" + value(i, 1, type) + ", " + value(i, 2, type) + ")";
        const std::string out = i.has("cc") ? "carry" : "ignored_carry";
        emit("{ bool ignored_carry;");
        assign(i.operands[0], result,
               angle("add_carry", result) + "(" + product + ", " + value(i, 3, result) + ", " +
                   (i.op == "madc" ? "carry" : "false") + ", " + out + ")");
        emit("}");
        return;
    }
    assign(i.operands[0], result,
           angle(base + form + (i.has("sat") ? "_sat" : ""), type) + "(" + arguments + ")");
}

void Translator::minmax(const Instruction& i) {
    const Type type = i.type();
    const std::string op = i.op;
    if (type.is_float()) {
        count(InstructionKind::floating);
        if (i.operands.size() == 4) {
            throw Error("the three-operand form is not known");
        }
        assign(i.operands[0], type, floating_call(op == "min" ? "fmin_" : "fmax_", i, type, 1, 2));
        return;
    }
    count(InstructionKind::integer);
    const std::string name = "i" + op + (i.has("relu") ? "_relu" : "");
    const std::string arguments = "(" + value(i, 1, type) + ", " + value(i, 2, type) + ")";
    if (type.is("u16x2") || type.is("s16x2")) {
        const std::string h = type.is("u16x2") ? "U16" : "S16";
        assign(i.operands[0], type, "by_halves<" + h + ", " + name + "<" + h + ">>" + arguments);
    } else {
        assign(i.operands[0], type, angle(name, type) + arguments);
    }
}

void Translator::compare(const Instruction& i, bool set) {
    const std::vector<Type> types = i.types();
    const Type type = types.back();
    const Type result = set ? types.front() : pred;
    std::string op = i.modifiers[0];
    std::string combine;
    for (const std::string& m : i.modifiers) {
        combine = m == "and" ? "&" : m == "or" ? "|" : m == "xor" ? "^" : combine;
    }
    count(type.is_float() ? InstructionKind::floating : InstructionKind::integer);
    const std::string extra = combine.empty() ? "" : " " + combine + " " + predicate(i.operands.at(3));
    if (type.is_half2()) {
        const std::string element = type.is("f16x2") ? "F16" : "BF16";
        const auto half = [&](const char* shift) {
            return "(fcompare<" + element + ", Compare::" + op + ", " + flags(i) + ">(U16(" +
                   value(i, 1, type) + shift + "), U16(" + value(i, 2, type) + shift + "))" + extra + ")";
        };
        if (set) {
            const std::string one = result.is("f16x2")    ? "0x3C00u"
                                    : result.is("bf16x2") ? "0x3F80u"
                                                          : "0xFFFFu";
            assign(
                i.operands[0], result,
                "(" + half("") + " ? " + one + " : 0u) | (" + half(" >> 16") + " ? " + one + " << 16 : 0u)");
        } else {
            emit("{ const bool low = " + half("") + ", high = " + half(" >> 16") + ";");
            assign_name(i.operands[0].name.empty() ? "_" : i.operands[0].name, "bool", "low");
            if (!i.operands[0].second.empty()) {
                assign_name(i.operands[0].second, "bool", "high");
            }
            emit("}");
        }
        return;
    }
    std::string test;
    if (type.is_float()) {
        test = "fcompare<" + type.tag() + ", Compare::" + op + ", " + flags(i) + ">(" + value(i, 1, type) +
               ", " + value(i, 2, type) + ")";
    } else {
        Type compared = type;
        if (op == "lo" || op == "ls" || op == "hi" || op == "hs") {
            compared = type_named("u" + std::to_string(type.bits));
            op = op == "lo" ? "lt" : op == "ls" ? "le" : op == "hi" ? "gt" : "ge";
        }
        static const std::set<std::string> known = {"eq", "ne", "lt", "le", "gt", "ge"};
        if (known.count(op) == 0) {
            throw Error("comparison " + op + " is not known for integers");
        }
        test = angle(op, compared) + "(" + value(i, 1, compared) + ", " + value(i, 2, compared) + ")";
    }
    if (set) {
        const std::string whole = "(" + test + extra + ")";
        if (result.is("f32")) {
            assign(i.operands[0], result, whole + " ? 1.0f : 0.0f");
        } else if (result.is_half()) {
            assign(i.operands[0], result,
                   whole + (result.is("f16") ? " ? U16(0x3C00) : U16(0)" : " ? U16(0x3F80) : U16(0)"));
        } else {
            assign(i.operands[0], result, whole + " ? ~0u : 0u");
        }
        return;
    }
    if (i.operands[0].second.empty()) {
        assign(i.operands[0], pred, test + extra);
    } else {
        emit("{ const bool test = " + test + ";");
        assign_name(i.operands[0].kind == OperandKind::sink ? "_" : i.operands[0].name, "bool",
                    "test" + extra);
        assign_name(i.operands[0].second, "bool", "!test" + extra);
        emit("}");
    }
}

void Translator::add_arithmetic() {
    for (const char* op : {"add", "sub", "addc", "subc"}) {
        handlers_[op] = [this](const Instruction& i) { return arithmetic(i), true; };
    }
    for (const char* op : {"mul", "mul24"}) {
        handlers_[op] = [this](const Instruction& i) { return multiply(i, false), true; };
    }
    for (const char* op : {"mad", "mad24", "madc", "fma"}) {
        handlers_[op] = [this](const Instruction& i) { return multiply(i, true), true; };
    }
    for (const char* op : {"min", "max"}) {
        handlers_[op] = [this](const Instruction& i) { return minmax(i), true; };
    }
    handlers_["setp"] = [this](const Instruction& i) { return compare(i, false), true; };
    handlers_["set"] = [this](const Instruction& i) { return compare(i, true), true; };

    // Operations that exist for integers and for floating point: neg, abs, div.
    const auto both = [this](const char* op, std::size_t operands, const char* integer, const char* real) {
        handlers_[op] = [this, operands, integer, real](const Instruction& i) {
            const Type type = i.type();
            if (type.is_float()) {
                const bool approx = i.op == "div" && (i.has("approx") || i.has("full"));
                count(i.op == "div" ? InstructionKind::special : InstructionKind::floating);
                assign(i.operands[0], type,
                       floating_call(approx && i.has("approx") ? "fdiv_approx" : real, i, type, 1, operands));
            } else {
                count(InstructionKind::integer);
                std::string arguments = value(i, 1, type);
                if (operands == 2) {
                    arguments += ", " + value(i, 2, type);
                }
                assign(i.operands[0], type, angle(integer, type) + "(" + arguments + ")");
            }
            return true;
        };
    };
    both("neg", 1, "ineg", "fneg");
    both("abs", 1, "iabs", "fabs_");
    both("div", 2, "idiv", "fdiv");

    // Floating-point functions.
    const std::map<std::string, std::string> functions = {
        {"sqrt", "fsqrt"}, {"rcp", "frcp"}, {"rsqrt", "frsqrt"}, {"ex2", "fex2"},
        {"lg2", "flg2"},   {"sin", "fsin"}, {"cos", "fcos"},     {"tanh", "ftanh"}};
    for (const auto& [op, function] : functions) {
        handlers_[op] = [this, function = function](const Instruction& i) {
            const Type type = i.type();
            count(InstructionKind::special);
            if (type.is("f64") && i.has("approx") && (i.op == "rcp" || i.op == "rsqrt")) {
                assign(i.operands[0], type, i.op + "_approx_f64(" + value(i, 1, type) + ")");
            } else {
                assign(i.operands[0], type, floating_call(function.c_str(), i, type, 1, 1));
            }
            return true;
        };
    }
    handlers_["copysign"] = [this](const Instruction& i) {
        count(InstructionKind::floating);
        assign(i.operands[0], i.type(), floating_call("fcopysign", i, i.type(), 1, 2));
        return true;
    };
    handlers_["testp"] = [this](const Instruction& i) {
        count(InstructionKind::floating);
        assign(
            i.operands[0], pred,
            "testp<" + i.type().tag() + ", Property::" + i.modifiers[0] + ">(" + value(i, 1, i.type()) + ")");
        return true;
    };

    // Integer operations, in the form name<type>(operands of that type, then 32-bit ones).
    struct Form {
        const char* name;
        std::size_t typed, counts;
        bool result32;
    };
    const std::map<std::string, Form> integers = {
        {"rem", {"irem", 2, 0, false}},  {"sad", {"sad", 3, 0, false}},  {"and", {"and_", 2, 0, false}},
        {"or", {"or_", 2, 0, false}},    {"xor", {"xor_", 2, 0, false}}, {"not", {"not_", 1, 0, false}},
        {"cnot", {"cnot", 1, 0, false}}, {"shl", {"shl", 1, 1, false}},  {"shr", {"shr", 1, 1, false}},
        {"brev", {"brev", 1, 0, false}}, {"bfe", {"bfe", 1, 2, false}},  {"bfi", {"bfi", 2, 2, false}},
        {"bfind", {"bfind", 1, 0, true}}};
    for (const auto& [op, form] : integers) {
        handlers_[op] = [this, form = form](const Instruction& i) {
            const Type type = i.type();
            count(InstructionKind::integer);
            std::string name = form.name;
            if (i.op == "bfind" && i.has("shiftamt")) {
                name += "_shiftamt";
            }
            std::string arguments;
            for (std::size_t k = 0; k < form.typed + form.counts; ++k) {
                arguments += (k == 0 ? "" : ", ") + value(i, 1 + k, k < form.typed ? type : u32);
            }
            assign(i.operands[0], form.result32 ? u32 : type, angle(name, type) + "(" + arguments + ")");
            return true;
        };
    }
    for (const char* op : {"popc", "clz"}) {
        handlers_[op] = [this](const Instruction& i) {
            count(InstructionKind::integer);
            assign(i.operands[0], u32, i.op + "(" + i.type().tag() + "(" + value(i, 1, i.type()) + "))");
            return true;
        };
    }
    const auto plain = [this](const char* op, std::size_t operands,
                              std::function<std::string(const Instruction&)> name) {
        handlers_[op] = [this, operands, name = std::move(name)](const Instruction& i) {
            count(InstructionKind::integer);
            std::string arguments;
            for (std::size_t k = 0; k < operands; ++k) {
                arguments += (k == 0 ? "" : ", ") + value(i, 1 + k, u32);
            }
            assign(i.operands[0], u32, name(i) + "(" + arguments + ")");
            return true;
        };
    };
    plain("fns", 3, [](const Instruction&) { return std::string("fns"); });
    plain("shf", 3,
          [](const Instruction& i) { return "shf_" + i.modifiers.at(0) + "_" + i.modifiers.at(1); });
    plain("bmsk", 2, [](const Instruction& i) { return "bmsk_" + i.modifiers.at(0); });
    plain("prmt", 3, [](const Instruction& i) {
        return i.modifiers.at(0) == "b32" && i.modifiers.size() > 1 ? "prmt_" + i.modifiers[1]
                                                                    : std::string("prmt");
    });
    plain("dp4a", 3, [](const Instruction& i) {
        const auto t = i.types();
        return "dp4a<" + std::string(t.at(0).is_signed() ? "S8" : "U8") + ", " +
               (t.at(1).is_signed() ? "S8" : "U8") + ">";
    });
    plain("dp2a", 3, [](const Instruction& i) {
        const auto t = i.types();
        return "dp2a<" + std::string(t.at(0).is_signed() ? "S16" : "U16") + ", " +
               (t.at(1).is_signed() ? "S8" : "U8") + ", " + (i.has("hi") ? "2" : "0") + ">";
    });
    for (const char* name : {"add", "sub", "avrg", "absdiff", "min", "max"}) {
        for (const char* lanes : {"2", "4"}) {
            handlers_["v" + std::string(name) + lanes] = [this, name = std::string(name),
                                                          lanes](const Instruction& i) {
                const std::vector<Type> types = i.types();
                if (types.size() != 3) {
                    return false;
                }
                const std::string bits = lanes[0] == '2' ? "16" : "8";
                std::string arguments = "Video::" + name;
                for (const Type& type : types) {
                    arguments += std::string(", ") + (type.is_signed() ? "S" : "U") + bits;
                }
                arguments +=
                    std::string(i.has("sat") ? ", true" : ", false") + (i.has("add") ? ", true" : ", false");
                count(InstructionKind::integer);
                assign(i.operands[0], u32,
                       "video<" + arguments + ">(" + value(i, 1, u32) + ", " + value(i, 2, u32) + ", " +
                           value(i, 3, u32) + ")");
                return true;
            };
        }
    }
    handlers_["szext"] = [this](const Instruction& i) {
        count(InstructionKind::integer);
        assign(i.operands[0], i.type(),
               angle("szext_" + i.modifiers.at(0), i.type()) + "(" + value(i, 1, i.type()) + ", " +
                   value(i, 2, u32) + ")");
        return true;
    };
    handlers_["lop3"] = [this](const Instruction& i) {
        count(InstructionKind::integer);
        const bool with_predicate = i.has("and") || i.has("or");
        const Operand& table = i.operands.at(4);
        if (table.kind != OperandKind::integer) {
            throw Error("the table must be a constant");
        }
        const std::string call = "lop3<" + std::to_string(table.value & 0xFF) + ">(" + value(i, 1, u32) +
                                 ", " + value(i, 2, u32) + ", " + value(i, 3, u32) + ")";
        if (!with_predicate) {
            assign(i.operands[0], u32, call);
            return true;
        }
        emit("{ const U32 bits = " + call + ";");
        assign_name(
            i.operands[0].second, "bool",
            "(bits != 0) " + std::string(i.has("and") ? "&" : "|") + " " + predicate(i.operands.at(5)));
        assign(i.operands[0], u32, "bits");
        emit("}");
        return true;
    };
    handlers_["selp"] = [this](const Instruction& i) {
        const Type type = i.type();
        count(type.is_float() ? InstructionKind::floating : InstructionKind::integer);
        assign(i.operands[0], type,
               "select<" + type.storage() + ">(" + predicate(i.operands.at(3)) + ", " + value(i, 1, type) +
                   ", " + value(i, 2, type) + ")");
        return true;
    };
    handlers_["slct"] = [this](const Instruction& i) {
        const Type type = i.type(1);
        const Type chooser = i.type();
        count(InstructionKind::integer);
        const std::string c = chooser.is("f32") ? "flush<" + flags(i) + ">(" + value(i, 3, chooser) + ")"
                                                : "S32(" + value(i, 3, chooser) + ")";
        assign(i.operands[0], type,
               "select<" + type.storage() + ">(" + c + " >= 0, " + value(i, 1, type) + ", " +
                   value(i, 2, type) + ")");
        return true;
    };
}

}  // namespace ptx2cpp
