// PTX as the translator holds it: types, operands, instructions, variables.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tools/vgpu/ptx2cpp/lexer.h"

namespace ptx2cpp {

// "u32", "f16x2", "pred" ...: bits of one value, and the class that decides how it is computed.
struct Type {
    std::string name;  // without the dot; empty: none
    int bits = 0;
    bool is(const char* other) const { return name == other; }
    bool is_half() const { return name == "f16" || name == "bf16"; }
    bool is_half2() const { return name == "f16x2" || name == "bf16x2"; }
    bool is_float() const { return name == "f32" || name == "f64" || is_half() || is_half2(); }
    bool is_signed() const { return name[0] == 's'; }
    bool is_pred() const { return name == "pred"; }
    std::string tag() const;      // template argument: "U32", "F16" (bits count as unsigned)
    std::string storage() const;  // the C++ type of a register or value: "U32", "U16" for f16
};
// Throws nothing: a type with an empty name if the word is none.
Type type_named(const std::string& name);

enum class OperandKind { reg, special, integer, real32, real64, symbol, address, vector, sink };

struct Operand {
    OperandKind kind = OperandKind::sink;
    std::string name;         // register, special register or symbol; of an address: its base (may be empty)
    std::uint64_t value = 0;  // integer, the bits of a real; of an address: the offset
    bool negated = false;     // !predicate
    bool base_is_reg = false;
    std::vector<Operand> elements;  // of a vector
    std::string second;             // d|p: the second destination ("_" for a sink)
};

struct Instruction {
    std::string text;  // the opcode as written
    std::string op;    // its first word
    std::vector<std::string> modifiers;
    std::vector<Operand> operands;
    std::string guard;  // predicate register, empty if none
    bool guard_negated = false;
    int line = 0;  // in the PTX text

    bool has(const char* modifier) const;
    Type type(int from_end = 0) const;  // the last (next to last ...) modifier that is a type
    std::vector<Type> types() const;
};

enum class StateSpace { global, constant, shared, local, param };

struct Variable {
    std::string name;
    StateSpace space = StateSpace::global;
    std::uint64_t size = 0, alignment = 1;
    bool is_extern = false;
    bool dynamic = false;  // extern shared without a size
    std::uint64_t offset = 0;
    std::vector<unsigned char> initial;
    struct Address {
        std::uint64_t offset;
        std::string symbol;
        std::uint64_t addend;
    };
    std::vector<Address> addresses;
};

struct SourceLocation {
    std::string file;
    int line = 0;
    bool operator==(const SourceLocation&) const = default;
};

}  // namespace ptx2cpp
