#include "tools/vgpu/ptx2cpp/ptx.h"

#include <algorithm>
#include <cctype>

namespace ptx2cpp {

Type type_named(const std::string& name) {
    static const std::map<std::string, int> special = {
        {"pred", 1}, {"f16", 16},  {"bf16", 16},  {"f16x2", 32}, {"bf16x2", 32}, {"f32", 32},
        {"f64", 64}, {"tf32", 32}, {"u16x2", 32}, {"s16x2", 32}, {"b8", 8},      {"b16", 16},
        {"b32", 32}, {"b64", 64},  {"b128", 128}, {"u8", 8},     {"u16", 16},    {"u32", 32},
        {"u64", 64}, {"s8", 8},    {"s16", 16},   {"s32", 32},   {"s64", 64}};
    const auto it = special.find(name);
    return it == special.end() ? Type{} : Type{name, it->second};
}

std::string Type::tag() const {
    if (name == "pred") {
        return "Pred";
    }
    if (name[0] == 'b' && name[1] != 'f') {
        return "U" + std::to_string(bits);
    }
    std::string result = name;
    std::transform(result.begin(), result.end(), result.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return result;
}

std::string Type::storage() const {
    if (name == "pred" || name == "f32" || name == "f64" || name[0] == 's') {
        return name == "s16x2" ? "U32" : tag();
    }
    return "U" + std::to_string(bits);
}

bool Instruction::has(const char* modifier) const {
    return std::find(modifiers.begin(), modifiers.end(), modifier) != modifiers.end();
}

std::vector<Type> Instruction::types() const {
    std::vector<Type> result;
    for (const std::string& m : modifiers) {
        Type t = type_named(m);
        if (!t.name.empty()) {
            result.push_back(t);
        }
    }
    return result;
}

Type Instruction::type(int from_end) const {
    const std::vector<Type> all = types();
    const int index = static_cast<int>(all.size()) - 1 - from_end;
    if (index < 0) {
        throw Error(text + ": expected a type");
    }
    return all[static_cast<std::size_t>(index)];
}

}  // namespace ptx2cpp
