// Function scope: declarations, scopes, labels, source lines.
#include <algorithm>

#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {
namespace {

bool is_toolkit_header(const std::string& file) {
    return (file.find("/targets/") != std::string::npos && file.find("/include/") != std::string::npos) ||
           file.rfind("/usr/include/", 0) == 0 || file.rfind("/usr/lib/", 0) == 0;
}

std::string quoted(const std::string& s) {
    return "\"" + s + "\"";
}

}  // namespace

std::vector<Translator::Parameter> Translator::parameters() {
    std::vector<Parameter> result;
    std::uint64_t offset = 0;
    while (!accept(")")) {
        expect(".param");
        Parameter p;
        Type type;
        while (peek().text[0] == '.') {
            const std::string word = next().text;
            if (word == ".align") {
                const std::uint64_t alignment = integer(next().text);
                if (type.name.empty()) {
                    p.alignment = alignment;
                }
            } else if (word == ".ptr" || word == ".global" || word == ".const" || word == ".shared" ||
                       word == ".local") {
                continue;  // what the pointer points to
            } else {
                type = type_named(word.substr(1));
                if (type.name.empty()) {
                    fail("parameters of type " + word + " are not known");
                }
            }
        }
        p.size = static_cast<std::uint64_t>(type.bits / 8);
        p.alignment = std::max(p.alignment, p.size);
        p.name = next().text;
        if (accept("[")) {
            p.size *= peek().text == "]" ? 0 : constant_expression();
            expect("]");
        }
        offset = (offset + p.alignment - 1) / p.alignment * p.alignment;
        p.offset = offset;
        offset += p.size;
        result.push_back(p);
        accept(",");
    }
    return result;
}

void Translator::function(bool is_entry) {
    accept(".attribute");
    std::vector<Parameter> result;
    if (!is_entry && accept("(")) {
        result = parameters();
    }
    const std::string name = next().text;
    std::vector<Parameter> arguments;
    if (accept("(")) {
        arguments = parameters();
    }
    Kernel kernel;
    kernel.name = name;
    while (peek().text[0] == '.') {
        const std::string word = next().text;
        if (word == ".maxntid" || word == ".reqntid") {
            std::uint64_t threads = constant_expression();
            while (accept(",")) {
                threads *= constant_expression();
            }
            kernel.max_threads = static_cast<int>(threads);
        } else if (word == ".minnctapersm" || word == ".maxnctapersm" || word == ".maxnreg") {
            constant_expression();
        } else if (word == ".pragma") {
            next();
            expect(";");
        } else if (word != ".noreturn") {
            fail(word + " of function " + name + " is not known");
        }
    }
    if (accept(";")) {
        if (name != "vprintf" && name != "__assertfail" && name != "malloc" && name != "free") {
            declared_functions_.insert(name);
        }
        return;
    }
    body_ = Body{};
    body_.is_entry = is_entry;
    for (std::size_t k = 0; k < arguments.size(); ++k) {
        Parameter p = arguments[k];
        if (!is_entry) {
            p.offset = k;
        } else {
            kernel.parameter_bytes = p.offset + p.size;
        }
        body_.parameters[p.name] = p;
    }
    kernel.parameters = arguments;
    if (!result.empty()) {
        body_.result = result[0].name;
    }
    body(name, is_entry, &kernel);
    if (is_entry) {
        kernels_.push_back(kernel);
    } else {
        declared_functions_.insert(name);
        defined_functions_.insert(name);
    }
}

void Translator::body(const std::string& name, bool is_entry, Kernel* kernel) {
    body_.name = name;
    body_.scopes.emplace_back();
    expect("{");
    while (!body_.scopes.empty()) {
        if (peek().kind == TokenKind::end) {
            fail(name + ": unbalanced braces");
        }
        if (kernel->where.line == 0 && body_.where.line != 0) {
            kernel->where = body_.where;
        }
        statement();
    }
    for (const std::string& used : body_.labels_used) {
        if (body_.labels_defined.count(used) == 0) {
            fail(name + ": label " + used + " is not defined");
        }
    }
    // Shared variables of this function follow those of the module.
    kernel->static_shared = body_.shared != 0 ? body_.shared
                            : body_.uses_module_shared || body_.has_calls
                                ? std::max(module_shared_, shared_base_)
                                : 0;
    const std::string signature = is_entry
                                      ? "(Thread& t, const unsigned char* param)"
                                      : "(Thread& t, unsigned char* result, unsigned char* const* argument)";
    code_ += finish_body("void " + function_name(name) + signature);
}

std::string Translator::finish_body(const std::string& signature) {
    std::string out = "\n" + signature + " {\n";
    for (const auto& [type, names] : body_.declarations) {
        out += "    " + type + " " + names + ";\n";
    }
    if (body_.needs_carry) {
        out += "    bool carry = false;\n";
    }
    out += body_.arrays;
    out += "    U64* const n = t.block->runs;\n";
    return out + body_.text + "\n    return;\n}\n";
}

const Translator::Register* Translator::find_register(const std::string& name) const {
    for (auto scope = body_.scopes.rbegin(); scope != body_.scopes.rend(); ++scope) {
        const auto it = scope->find(name);
        if (it != scope->end()) {
            return &it->second;
        }
    }
    return nullptr;
}

Translator::Register Translator::new_register(const std::string& name, const std::string& type) {
    std::string c;
    for (const char ch : name) {
        if (ch != '%') {
            c += ch;
        }
    }
    const bool plain = std::isdigit(static_cast<unsigned char>(c.back())) != 0 &&
                       std::islower(static_cast<unsigned char>(c.front())) != 0 &&
                       c.find('_') == std::string::npos;
    if (!plain || body_.names.count(c) != 0 || c == "ex2" || c == "lg2") {
        c += "_" + std::to_string(++body_.unique);
    }
    body_.names.insert(c);
    std::string& list = body_.declarations[type];
    list += (list.empty() ? "" : ", ") + c + " = 0";
    return {c, type};
}

void Translator::declare_registers() {
    std::string word = next().text;
    if (word == ".v2" || word == ".v4") {
        fail("vector registers are not known");
    }
    const Type type = type_named(word.substr(1));
    if (type.name.empty()) {
        fail("registers of type " + word + " are not known");
    }
    const std::string storage = type.is_pred()                     ? "bool"
                                : type.is("f32") || type.is("f64") ? type.tag()
                                                                   : "U" + std::to_string(type.bits);
    do {
        const std::string name = next().text;
        if (accept("<")) {
            const std::uint64_t count = constant_expression();
            expect(">");
            for (std::uint64_t k = 0; k < count; ++k) {
                const std::string each = name + std::to_string(k);
                body_.scopes.back()[each] = new_register(each, storage);
            }
        } else {
            body_.scopes.back()[name] = new_register(name, storage);
        }
    } while (accept(","));
    expect(";");
}

// A .param variable of a call sequence: a small array.
void Translator::declare_param() {
    const Variable v = variable(StateSpace::param, false);
    const std::string c = "p_" + std::to_string(++body_.unique);
    body_.locals[v.name] = c;
    body_.arrays += "    alignas(16) unsigned char " + c + "[" +
                    std::to_string(std::max<std::uint64_t>(v.size, 8)) + "];\n";
}

void Translator::location() {
    const int file = static_cast<int>(integer(next().text));
    const int line = static_cast<int>(integer(next().text));
    const int column = static_cast<int>(integer(next().text));
    std::vector<SourceLocation> chain = {{files_[file], line}};
    if (accept(",")) {
        expect("function_name");
        next();
        if (accept("+")) {
            next();
        }
        expect(",");
        expect("inlined_at");
        const int outer_file = static_cast<int>(integer(next().text));
        const int outer_line = static_cast<int>(integer(next().text));
        const int outer_column = static_cast<int>(integer(next().text));
        const auto it = inlined_.find({outer_file, outer_line, outer_column});
        if (it != inlined_.end()) {
            chain.insert(chain.end(), it->second.begin(), it->second.end());
        } else {
            chain.push_back({files_[outer_file], outer_line});
        }
    }
    inlined_[{file, line, column}] = chain;
    if (line == 0) {
        return;  // code that belongs to no line: keep the last
    }
    // The innermost line that is the user's own: a fault inside cuda_bf16.hpp is shown where it was called.
    const auto own = std::find_if(chain.begin(), chain.end(), [](const SourceLocation& l) {
        return !is_toolkit_header(l.file) && l.line != 0;
    });
    body_.where = own != chain.end() ? *own : chain.front();
}

void Translator::begin_line() {
    if (!(body_.where == body_.shown) && body_.where.line != 0) {
        body_.text +=
            "\n#line " + std::to_string(body_.where.line) + " " + quoted(body_.where.file) + "\n   ";
        body_.shown = body_.where;
    } else if (body_.text.empty()) {
        body_.text += "   ";
    }
}

void Translator::emit(const std::string& code) {
    begin_line();
    body_.text += " " + code;
}

// Basic blocks count how often a thread runs them, from which the instructions of each kind follow.
void Translator::open_block() {
    if (body_.new_block) {
        emit("++n[" + std::to_string(blocks_.size()) + "];");
        blocks_.emplace_back(static_cast<std::size_t>(InstructionKind::count), 0);
        body_.new_block = false;
    }
}

std::string Translator::label_name(const std::string& name) const {
    std::string c = "L_";
    for (const char ch : name) {
        c += ch == '%' || ch == '.' ? '_' : ch;
    }
    return c;
}

void Translator::label(const std::string& name) {
    body_.labels_defined.insert(name);
    begin_line();
    body_.text += " " + label_name(name) + ":;";
    body_.new_block = true;
}

int Translator::site(const Instruction& i) {
    sites_.push_back("    {" + quoted(body_.where.file) + ", " + std::to_string(body_.where.line) + ", " +
                     quoted(i.text) + "},\n");
    return static_cast<int>(sites_.size()) - 1;
}

void Translator::statement() {
    const Token& t = peek();
    if (accept("{")) {
        body_.scopes.emplace_back();
        return;
    }
    if (accept("}")) {
        body_.scopes.pop_back();
        return;
    }
    if (accept(";")) {
        return;
    }
    if (t.kind == TokenKind::word && peek(1).text == ":") {
        const std::string name = next().text;
        next();
        if (accept(".branchtargets")) {
            std::vector<std::string>& targets = body_.branch_targets[name];
            do {
                targets.push_back(next().text);
            } while (accept(","));
            expect(";");
        } else if (accept(".callprototype") || accept(".calltargets")) {
            while (!accept(";")) {
                next();
            }
        } else {
            label(name);
        }
        return;
    }
    if (accept(".reg")) {
        declare_registers();
    } else if (accept(".param")) {
        declare_param();
    } else if (accept(".loc")) {
        location();
    } else if (accept(".pragma")) {
        next();
        expect(";");
    } else if (accept(".local")) {
        Variable v = variable(StateSpace::local, false);
        const std::string c = "local_" + std::to_string(++body_.unique);
        body_.arrays += "    alignas(" + std::to_string(std::max<std::uint64_t>(v.alignment, 16)) +
                        ") unsigned char " + c + "[" + std::to_string(v.size) +
                        "];\n    const LocalFrame frame_" + c + "(t, " + c + ", " + std::to_string(v.size) +
                        ");\n";
        body_.locals[v.name] = c;
        body_.variables[v.name] = v;
    } else if (accept(".shared")) {
        Variable v = variable(StateSpace::shared, false);
        if (!v.dynamic && !body_.is_entry) {
            module_shared_ = (module_shared_ + v.alignment - 1) / v.alignment * v.alignment;
            v.offset = module_shared_;
            module_shared_ += v.size;
        } else if (!v.dynamic) {
            body_.shared = std::max({body_.shared, module_shared_, shared_base_});
            body_.shared = (body_.shared + v.alignment - 1) / v.alignment * v.alignment;
            v.offset = body_.shared;
            body_.shared += v.size;
        }
        body_.variables[v.name] = v;
    } else if (accept(".global") || accept(".const")) {
        --position_;
        const bool constant = next().text == ".const";
        module_variable(constant ? StateSpace::constant : StateSpace::global, false);
    } else if (t.kind == TokenKind::word && t.text[0] == '.') {
        fail("unknown directive " + t.text);
    } else {
        const Instruction i = instruction();
        try {
            translate(i);
        } catch (const Error& error) {
            throw Error(source_name_ + ":" + std::to_string(i.line) + ": instruction " + i.text + ": " +
                        error.what() + " (" + body_.where.file + ":" + std::to_string(body_.where.line) +
                        ")");
        }
    }
}

}  // namespace ptx2cpp
