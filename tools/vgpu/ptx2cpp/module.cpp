// Module scope: variables, functions' order, and the tables that the executor reads.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {
namespace {

std::string quoted(const std::string& s) {
    std::string result = "\"";
    for (const char c : s) {
        if (c == '"' || c == '\\') {
            result += '\\';
        }
        result += c;
    }
    return result + "\"";
}

std::string identifier(const std::string& symbol) {
    std::string result;
    for (const char c : symbol) {
        result += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' ? c : '_';
    }
    return result;
}

}  // namespace

Translator::Translator(std::string_view text, std::uint64_t id, std::string source_name,
                       std::uint64_t shared_base)
    : tokens_(tokenize(text)), id_(id), source_name_(std::move(source_name)), shared_base_(shared_base) {
    add_arithmetic();
    add_conversions();
    add_memory();
    add_control();
    add_matrix();
}

// The names of the source files stand at the end of the text, their numbers in its middle.
void Translator::scan_files() {
    for (std::size_t i = 0; i + 2 < tokens_.size(); ++i) {
        if (tokens_[i].text == ".file" && tokens_[i + 1].kind == TokenKind::number &&
            tokens_[i + 2].kind == TokenKind::string) {
            files_[std::stoi(tokens_[i + 1].text)] =
                std::filesystem::path(tokens_[i + 2].text).lexically_normal().string();
        }
    }
    strip_project_root();
}

// A cached object has the paths of the checkout that it was made in. The root is what stands before the path of the
// source file itself.
void Translator::strip_project_root() {
    if (source_path_.empty()) {
        return;
    }
    std::string root;
    for (const auto& [number, file] : files_) {
        if (file.ends_with("/" + source_path_)) {
            root = file.substr(0, file.size() - source_path_.size());
        }
    }
    for (auto& [number, file] : files_) {
        if (!root.empty() && file.starts_with(root)) {
            file.erase(0, root.size());
        }
    }
}

std::string Translator::run() {
    scan_files();
    while (peek().kind != TokenKind::end) {
        directive();
    }
    return write_module();
}

void Translator::skip_braces() {
    expect("{");
    for (int depth = 1; depth > 0;) {
        const Token t = next();
        if (t.kind == TokenKind::end) {
            fail("unbalanced braces");
        }
        depth += t.text == "{" ? 1 : t.text == "}" ? -1 : 0;
    }
}

void Translator::directive() {
    const Token t = next();
    bool is_extern = false;
    std::string word = t.text;
    while (word == ".visible" || word == ".extern" || word == ".weak" || word == ".common") {
        is_extern = is_extern || word == ".extern";
        word = next().text;
    }
    if (word == ".version" || word == ".address_size") {
        const std::string number = next().text;
        if (word == ".address_size" && number != "64") {
            fail("only 64-bit addresses are known");
        }
    } else if (word == ".target") {
        do {
            next();
        } while (accept(","));
    } else if (word == ".file") {
        next();
        next();
        while (accept(",")) {
            next();
        }
    } else if (word == ".section") {
        next();
        skip_braces();
    } else if (word == ".pragma") {
        next();
        expect(";");
    } else if (word == ".global") {
        module_variable(StateSpace::global, is_extern);
    } else if (word == ".const") {
        module_variable(StateSpace::constant, is_extern);
    } else if (word == ".shared") {
        module_variable(StateSpace::shared, is_extern);
    } else if (word == ".func" || word == ".entry") {
        function(word == ".entry");
    } else if (word == ".loc") {
        location();
    } else {
        --position_;
        fail("unknown directive " + word);
    }
}

Variable Translator::variable(StateSpace space, bool is_extern) {
    Variable v;
    v.space = space;
    v.is_extern = is_extern;
    std::uint64_t vector = 1;
    Type element;
    for (;;) {
        if (accept(".align")) {
            v.alignment = integer(next().text);
        } else if (accept(".v2")) {
            vector = 2;
        } else if (accept(".v4")) {
            vector = 4;
        } else if (accept(".attribute")) {
            expect("(");
            while (!accept(")")) {
                next();
            }
        } else {
            break;
        }
    }
    const std::string type = next().text;
    element = type_named(type.substr(1));
    if (element.name.empty()) {
        fail("variables of type " + type + " are not known");
    }
    v.alignment = std::max<std::uint64_t>(v.alignment, static_cast<std::uint64_t>(element.bits / 8) * vector);
    v.name = next().text;
    v.size = static_cast<std::uint64_t>(element.bits / 8) * vector;
    bool open = false;
    while (accept("[")) {
        if (accept("]")) {
            open = true;
        } else {
            v.size *= constant_expression();
            expect("]");
        }
    }
    v.dynamic = open && space == StateSpace::shared;
    if (open) {
        v.size = 0;
    }
    if (accept("=")) {
        if (space == StateSpace::shared || space == StateSpace::local) {
            fail(v.name + ": only global and constant variables have an initial value");
        }
        initialiser(v, element);
        if (open) {
            v.size = v.initial.size();
        }
        v.initial.resize(v.size);
    }
    expect(";");
    return v;
}

void Translator::initialiser(Variable& v, const Type& element) {
    if (accept("{")) {
        while (!accept("}")) {
            initialiser(v, element);
            accept(",");
        }
        return;
    }
    std::uint64_t bits = 0;
    const Token t = peek();
    if (t.kind == TokenKind::word) {
        const bool generic = t.text == "generic";
        next();
        std::string name = t.text;
        if (generic) {
            expect("(");
            name = next().text;
            expect(")");
        }
        if (element.bits != 64) {
            fail(v.name + ": an address needs 64 bits, not " + element.name);
        }
        const std::uint64_t addend = peek().text == "+" || peek().text == "-" ? constant_expression() : 0;
        v.addresses.push_back({v.initial.size(), name, addend});
    } else {
        const Operand o = operand();
        bits = o.value;
        if (o.kind == OperandKind::real64 && element.is("f32")) {
            double d;
            std::memcpy(&d, &bits, sizeof(d));
            const float f = static_cast<float>(d);
            bits = 0;
            std::memcpy(&bits, &f, sizeof(f));
        } else if (o.kind != OperandKind::integer && o.kind != OperandKind::real32 &&
                   o.kind != OperandKind::real64) {
            fail(v.name + ": unknown initial value");
        }
    }
    for (int b = 0; b < element.bits / 8; ++b) {
        v.initial.push_back(b < 8 ? static_cast<unsigned char>(bits >> (8 * b)) : 0);
    }
}

void Translator::module_variable(StateSpace space, bool is_extern) {
    Variable v = variable(space, is_extern);
    if (is_extern && space != StateSpace::shared) {
        fail("extern variable " + v.name + ": relocatable device code (-rdc) is not supported");
    }
    if (space == StateSpace::shared && !v.dynamic) {
        module_shared_ = (module_shared_ + v.alignment - 1) / v.alignment * v.alignment;
        v.offset = module_shared_;
        module_shared_ += v.size;
    }
    variable_order_.push_back(v.name);
    variables_[v.name] = std::move(v);
}

std::string Translator::global_name(const std::string& symbol) const {
    return "v_" + identifier(symbol);
}
std::string Translator::function_name(const std::string& symbol) const {
    return "f_" + identifier(symbol);
}

std::string Translator::string_literal(const std::vector<unsigned char>& bytes) {
    std::string result;
    for (std::size_t i = 0; i < bytes.size(); i += 64) {
        result += "\n    \"";
        for (std::size_t k = i; k < std::min(i + 64, bytes.size()); ++k) {
            char octal[8];
            std::snprintf(octal, sizeof(octal), "\\%03o", bytes[k]);
            result += octal;
        }
        result += "\"";
    }
    return result;
}

std::string Translator::write_variables() {
    std::string result;
    std::string tables;
    std::string list;
    for (const std::string& name : variable_order_) {
        const Variable& v = variables_[name];
        if (v.space == StateSpace::shared) {
            continue;
        }
        const std::string c = global_name(name);
        result += "U64 " + c + ";\n";
        std::string initial = "nullptr";
        if (!v.initial.empty()) {
            initial = "initial_" + c;
            tables += "alignas(16) const unsigned char " + initial + "[" + std::to_string(v.size + 1) +
                      "] =" + string_literal(v.initial) + ";\n";
        }
        std::string relocations = "nullptr";
        if (!v.addresses.empty()) {
            relocations = "relocations_" + c;
            tables += "const RelocationData " + relocations + "[] = {";
            for (const auto& a : v.addresses) {
                std::string target = "&" + global_name(a.symbol);
                if (variables_.count(a.symbol) == 0) {
                    if (declared_functions_.count(a.symbol) == 0) {
                        fail(name + ": the address of " + a.symbol + ", which is not known");
                    }
                    target = "&address_" + function_name(a.symbol);
                }
                tables += "{" + std::to_string(a.offset) + "u, " + target + ", " + std::to_string(a.addend) +
                          "u}, ";
            }
            tables += "};\n";
        }
        list += "    {" + quoted(name) + ", " + std::to_string(v.size) + "u, " + std::to_string(v.alignment) +
                "u, " + initial + ", &" + c + ", " + (v.space == StateSpace::constant ? "true" : "false") +
                ", " + relocations + ", " + std::to_string(v.addresses.size()) + "u},\n";
    }
    for (const std::string& f : declared_functions_) {
        result += "void " + function_name(f) + "(Thread&, unsigned char*, unsigned char* const*);\n";
    }
    for (const auto& [name, v] : variables_) {
        for (const auto& a : v.addresses) {
            if (variables_.count(a.symbol) == 0) {
                const std::string f = function_name(a.symbol);
                if (result.find("address_" + f) == std::string::npos) {
                    result += "U64 address_" + f + " = reinterpret_cast<U64>(&" + f + ");\n";
                }
            }
        }
    }
    result += tables;
    if (!list.empty()) {
        result += "const VariableData variables[] = {\n" + list + "};\n";
    }
    return result;
}

std::string Translator::write_module() {
    for (const std::string& f : called_functions_) {
        if (defined_functions_.count(f) == 0) {
            fail("function " + f +
                 " is called but not defined: relocatable device code (-rdc) is not supported");
        }
    }
    std::string out = "// Written by ptx2cpp from " + source_name_ + ". Do not edit.\n";
    out += "#include \"tools/vgpu/device/device.h\"\n\nnamespace {\nusing namespace vgpu::device;\n\n";
    const std::string variables = write_variables();
    out += variables;
    out += "extern const ModuleData module_data;\n";
    if (!mutated_.empty()) {
        out +=
            "extern \"C\" char* getenv(const char*);\nextern \"C\" int atoi(const char*);\n"
            "extern \"C\" int puts(const char*);\n"
            "const int mutant = [] { const char* n = getenv(\"VGPU_MUTANT\"); return n ? atoi(n) : -1; }();\n"
            "bool reached = false;\n"
            "void reach_mutant() {\n    if (!reached) puts(\"the mutant is reached\");\n    reached = "
            "true;\n}\n";
    }
    out += code_;
    out += "\n#line 1 " + quoted(source_name_ + ".tables") + "\n";
    out += "const Site sites[] = {\n";
    for (const std::string& s : sites_) {
        out += s;
    }
    out += "    {\"\", 0, \"\"}};\nconst BlockData blocks[] = {\n";
    for (const auto& b : blocks_) {
        out += "    {{";
        for (const std::uint64_t c : b) {
            out += std::to_string(c) + ", ";
        }
        out += "}},\n";
    }
    out += "    {{}}};\n";
    std::string list;
    for (const Kernel& k : kernels_) {
        const std::string f = function_name(k.name);
        std::string parameters = "nullptr";
        if (!k.parameters.empty()) {
            parameters = "params_" + f;
            out += "const ParamData " + parameters + "[] = {";
            for (const Parameter& p : k.parameters) {
                out += "{" + std::to_string(p.offset) + ", " + std::to_string(p.size) + ", " +
                       std::to_string(p.alignment) + "}, ";
            }
            out += "};\n";
        }
        list += "    {" + quoted(k.name) + ", &" + f + ", " + parameters + ", " +
                std::to_string(k.parameters.size()) + "u, " + std::to_string(k.parameter_bytes) + "u, " +
                std::to_string(k.static_shared) + "u, " + std::to_string(k.max_threads) + ", {" +
                quoted(k.where.file) + ", " + std::to_string(k.where.line) + ", \"\"}, &module_data},\n";
    }
    if (!list.empty()) {
        out += "const KernelData kernels[] = {\n" + list + "};\n";
    }
    const bool any_variable = variables.find("const VariableData variables[]") != std::string::npos;
    const auto variable_count =
        std::count_if(variable_order_.begin(), variable_order_.end(),
                      [&](const std::string& n) { return variables_.at(n).space != StateSpace::shared; });
    char id[32];
    std::snprintf(id, sizeof(id), "0x%016llxu", static_cast<unsigned long long>(id_));
    out += std::string("const ModuleData module_data = {") + id + ", sites, " +
           std::to_string(sites_.size()) + "u, blocks, " + std::to_string(blocks_.size()) + "u, " +
           (list.empty() ? "nullptr" : "kernels") + ", " + std::to_string(kernels_.size()) + "u, " +
           (any_variable ? "variables" : "nullptr") + ", " + std::to_string(variable_count) +
           "u};\nconst RegisterModule registration(module_data);\n\n}  // namespace\n";
    return out;
}

}  // namespace ptx2cpp
