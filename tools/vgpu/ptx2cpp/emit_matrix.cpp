// ldmatrix, mma.sync, wmma.
#include <cstdio>

#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {
namespace {

const Type u32 = type_named("u32");

struct Shape {
    int m = 0, n = 0, k = 0;
};

Shape shape_of(const Instruction& i) {
    for (const std::string& modifier : i.modifiers) {
        Shape s;
        int used = 0;
        if (std::sscanf(modifier.c_str(), "m%dn%dk%d%n", &s.m, &s.n, &s.k, &used) == 3 &&
            used == static_cast<int>(modifier.size())) {
            return s;
        }
    }
    throw Error("expected a shape");
}

std::string element(const Type& type) {
    if (type.is_half() || type.is("tf32") || type.is("f32")) {
        return "Element::" + type.name;
    }
    throw Error("matrices of " + type.name + " are not known");
}

std::string numbers(const Shape& s) {
    return std::to_string(s.m) + ", " + std::to_string(s.n) + ", " + std::to_string(s.k);
}

}  // namespace

// The registers of a fragment as an array of 32-bit words.
std::string Translator::registers_in(const Operand& o, const char* name) {
    std::string result = std::string("const U32 ") + name + "[] = {";
    const std::vector<Operand> all = o.kind == OperandKind::vector ? o.elements : std::vector<Operand>{o};
    for (std::size_t k = 0; k < all.size(); ++k) {
        result += (k == 0 ? "" : ", ") + value(all[k], u32);
    }
    return result + "};";
}

void Translator::registers_out(const Operand& o, const char* name) {
    const std::vector<Operand> all = o.kind == OperandKind::vector ? o.elements : std::vector<Operand>{o};
    for (std::size_t k = 0; k < all.size(); ++k) {
        assign(all[k], u32, std::string(name) + "[" + std::to_string(k) + "]");
    }
}

void Translator::matrix_product(const Instruction& i) {
    const Shape s = shape_of(i);
    std::vector<Type> types = i.types();
    const bool wmma = i.op == "wmma";
    if (wmma && types.size() == 2) {  // the f16 form names the accumulators only
        types = {types[0], type_named("f16"), type_named("f16"), types[1]};
    }
    if (types.size() != 4) {
        throw Error("expected four types");
    }
    const std::string a = element(types[1]);
    const bool wide = s.k * (types[1].is("tf32") ? 2 : 1) == 16;
    const bool narrow = s.k * (types[1].is("tf32") ? 2 : 1) == 8;
    if (!wmma &&
        (s.m != 16 || s.n != 8 || (!wide && !narrow) || !i.has("row") || !i.has("col") || i.has("sp"))) {
        throw Error("this shape is not known");
    }
    const auto words = [](const Operand& o) {
        return std::to_string(o.kind == OperandKind::vector ? o.elements.size() : 1);
    };
    count(InstructionKind::matrix);
    emit("{ " + registers_in(i.operands.at(1), "ma") + " " + registers_in(i.operands.at(2), "mb") + " " +
         registers_in(i.operands.at(3), "mc") + " U32 md[" + words(i.operands[0]) + "];");
    const std::string shape = "MmaShape{" + numbers(s) + ", " + a + ", " + element(types[2]) + ", " +
                              element(types[3]) + ", " + element(types[0]) + ", " +
                              (i.has("satfinite") ? "true" : "false") + "}";
    if (wmma) {
        emit("wmma_mma(t, " + shape + ", WmmaCounts{" + words(i.operands[1]) + ", " + words(i.operands[2]) +
             ", " + words(i.operands[3]) + ", " + words(i.operands[0]) + "}, md, ma, mb, mc, " +
             std::to_string(site(i)) + ");");
    } else {
        emit("mma_sync(t, " + shape + ", md, ma, mb, mc, " + std::to_string(site(i)) + ");");
    }
    registers_out(i.operands[0], "md");
    emit("}");
}

void Translator::wmma(const Instruction& i) {
    const std::string& what = i.modifiers.at(0);
    if (what == "mma") {
        matrix_product(i);
        return;
    }
    if (what != "load" && what != "store") {
        throw Error("not known");
    }
    const bool load = what == "load";
    const Shape s = shape_of(i);
    const std::string role = i.modifiers.at(1) == "d" ? "c" : i.modifiers.at(1);
    const std::string space = space_of(i);
    const Operand& registers = i.operands.at(load ? 0 : 1);
    const Operand& at = i.operands.at(load ? 1 : 0);
    count(InstructionKind::matrix);
    // Without a stride the rows are dense.
    const int dense = role == "a"   ? (i.has("row") ? s.k : s.m)
                      : role == "b" ? (i.has("row") ? s.n : s.k)
                                    : (i.has("row") ? s.n : s.m);
    const std::string stride = i.operands.size() > 2 ? value(i, 2, u32) : std::to_string(dense);
    const std::string size = std::to_string(registers.elements.size());
    const std::string common = "WmmaShape{" + numbers(s) + ", '" + role + "', " +
                               (i.has("row") ? "true" : "false") + ", " + element(i.type()) + "}, U64(" +
                               address_value(at, StateSpace::global, space == "shared") + ")" +
                               (space == "shared" ? " | space_shared" : "") + ", " + stride + ", ";
    if (load) {
        emit("{ U32 md[" + size + "]; wmma_load(t, " + common + "md, " + size + ", " +
             std::to_string(site(i)) + ");");
        registers_out(registers, "md");
        emit("}");
    } else {
        emit("{ " + registers_in(registers, "ma") + " wmma_store(t, " + common + "ma, " + size + ", " +
             std::to_string(site(i)) + "); }");
    }
}

void Translator::add_matrix() {
    handlers_["mma"] = [this](const Instruction& i) { return matrix_product(i), true; };
    handlers_["wmma"] = [this](const Instruction& i) { return wmma(i), true; };
    for (const char* op : {"ldmatrix", "stmatrix"}) {
        handlers_[op] = [this](const Instruction& i) {
            if (!i.has("m8n8") || i.type().bits != 16) {
                return false;
            }
            const bool load = i.op == "ldmatrix";
            const std::string space = space_of(i);
            const int matrices = i.has("x4") ? 4 : i.has("x2") ? 2 : 1;
            count(InstructionKind::matrix);
            const std::string address =
                "U64(" + address_value(i.operands.at(load ? 1 : 0), StateSpace::shared, space == "shared") +
                ")" + (space == "shared" ? " | space_shared" : "");
            const std::string call = i.op + "(t, " + std::to_string(matrices) + ", " +
                                     (i.has("trans") ? "true" : "false") + ", " + address + ", ";
            if (load) {
                emit("{ U32 md[4]; " + call + "md, " + std::to_string(site(i)) + ");");
                registers_out(i.operands[0], "md");
                emit("}");
            } else {
                emit("{ " + registers_in(i.operands.at(1), "ma") + " " + call + "ma, " +
                     std::to_string(site(i)) + "); }");
            }
            return true;
        };
    }
    handlers_["movmatrix"] = [this](const Instruction& i) {
        if (!i.has("m8n8") || !i.has("trans") || !i.has("b16")) {
            return false;
        }
        count(InstructionKind::matrix);
        emit("{ U32 md[1]; movmatrix(t, md, " + value(i, 1, u32) + ", " + std::to_string(site(i)) + ");");
        registers_out(i.operands[0], "md");
        emit("}");
        return true;
    };
}

}  // namespace ptx2cpp
