// From PTX to C++: one pass over the tokens. A register becomes a local of its function, an instruction a call of an
// inline function of tools/vgpu/device, a label a label.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "tools/vgpu/kernel.h"
#include "tools/vgpu/ptx2cpp/mutate.h"
#include "tools/vgpu/ptx2cpp/ptx.h"

namespace ptx2cpp {

using vgpu::InstructionKind;

class Translator {
  public:
    // shared_base: where the kernels' own shared variables begin: behind those of the module and of device functions,
    // which is known after a first run.
    Translator(std::string_view text, std::uint64_t id, std::string source_name,
               std::uint64_t shared_base = 0);
    std::uint64_t module_shared() const { return module_shared_; }
    std::string run();  // the C++ file; throws Error, which names the instruction and its line

    // The path of the .cu file in its project, in whose files' names the project's root is then left out.
    void name_files_beside(std::string source_path) { source_path_ = std::move(source_path); }

    // Mutants by number, all of them in one translation: the environment's VGPU_MUTANT says which one runs. The module
    // keeps its number, so that the host object finds it.
    void mutate(std::set<int> numbers) { mutated_ = std::move(numbers); }
    const std::vector<MutantPlace>& mutants() const { return mutants_; }  // all, after run()

  private:
    struct Register {
        std::string name;  // in C++
        std::string type;  // "U32", "F32", "bool" ...
    };
    struct Parameter {
        std::string name;
        std::uint64_t offset = 0, size = 0, alignment = 1;
    };
    struct Kernel {
        std::string name;
        std::vector<Parameter> parameters;
        std::uint64_t parameter_bytes = 0, static_shared = 0;
        int max_threads = 0;
        SourceLocation where;
    };

    // --- tokens (parse.cpp)
    const Token& peek(std::size_t ahead = 0) const;
    Token next();
    bool accept(const char* text);
    void expect(const char* text);
    [[noreturn]] void fail(const std::string& what) const;
    std::uint64_t integer(const std::string& digits) const;
    std::uint64_t constant_expression();
    std::uint64_t constant_unary();
    Operand operand();
    Operand address();
    Instruction instruction();

    // --- the module (module.cpp)
    void scan_files();
    void strip_project_root();
    void directive();
    void skip_braces();
    Variable variable(StateSpace space, bool is_extern);
    void initialiser(Variable& v, const Type& element);
    void module_variable(StateSpace space, bool is_extern);
    std::string write_module();
    std::string write_variables();
    static std::string string_literal(const std::vector<unsigned char>& bytes);
    std::string global_name(const std::string& symbol) const;
    std::string function_name(const std::string& symbol) const;

    // --- functions (function.cpp)
    void function(bool is_entry);
    std::vector<Parameter> parameters();
    void body(const std::string& name, bool is_entry, Kernel* kernel);
    void statement();
    void declare_registers();
    void declare_param();
    void location();
    void begin_line();
    void emit(const std::string& code);
    void open_block();
    void label(const std::string& name);
    std::string label_name(const std::string& name) const;
    const Register* find_register(const std::string& name) const;
    Register new_register(const std::string& name, const std::string& type);
    std::string finish_body(const std::string& signature);
    int site(const Instruction& i);

    // --- values (emit.cpp)
    std::string value(const Operand& o, const Type& type);
    std::string value(const Instruction& i, std::size_t index, const Type& type);
    std::string predicate(const Operand& o);
    std::string reg(const Operand& o);
    std::string special(const std::string& name) const;
    std::string symbol(const std::string& name);
    std::string address_value(const Operand& o, StateSpace space, bool narrow);
    void assign(const Operand& destination, const Type& type, const std::string& expression);
    void assign_name(const std::string& destination, const std::string& type, const std::string& expression);
    void translate(const Instruction& i);
    void translate_one(const Instruction& i);
    static std::string flags(const Instruction& i);
    std::string floating_call(const char* function, const Instruction& i, const Type& type, std::size_t first,
                              std::size_t count);
    void count(InstructionKind kind);
    using Handler = std::function<bool(const Instruction&)>;
    void add_arithmetic();
    void add_conversions();
    void add_memory();
    void add_control();
    void add_matrix();

    void arithmetic(const Instruction& i);
    void multiply(const Instruction& i, bool add);
    void minmax(const Instruction& i);
    void compare(const Instruction& i, bool set);
    void convert(const Instruction& i);
    void move(const Instruction& i);
    void load_store(const Instruction& i, bool load);
    void atomic(const Instruction& i, bool result);
    void call(const Instruction& i);
    void barrier(const Instruction& i);
    void shuffle(const Instruction& i);
    void matrix_product(const Instruction& i);
    void wmma(const Instruction& i);
    std::string space_of(const Instruction& i) const;
    std::string registers_in(const Operand& o, const char* name);
    void registers_out(const Operand& o, const char* name);

    std::vector<Token> tokens_;
    std::size_t position_ = 0;
    std::uint64_t id_;
    std::string source_name_, source_path_;
    std::unordered_map<std::string, Handler> handlers_;

    std::map<int, std::string> files_;
    std::map<std::string, Variable> variables_;
    std::vector<std::string> variable_order_;
    std::uint64_t module_shared_ = 0, shared_base_ = 0;
    std::set<std::string> declared_functions_, defined_functions_, called_functions_;
    std::vector<Kernel> kernels_;
    std::string code_;
    std::vector<std::string> sites_;
    std::vector<std::vector<std::uint64_t>> blocks_;
    std::set<int> mutated_;
    std::vector<MutantPlace> mutants_;

    // The function being translated.
    struct Body {
        std::string name;
        bool is_entry = false;
        std::vector<std::map<std::string, Register>> scopes;
        std::map<std::string, std::string> declarations;  // C++ type -> "a = 0, b = 0"
        std::set<std::string> names;
        std::string text;
        std::map<std::string, Parameter>
            parameters;      // by name: of an entry its offset, of a function its index
        std::string result;  // the name of the return parameter
        std::map<std::string, std::string> locals;  // .param variables of calls: C++ names
        std::string arrays;                         // declarations of those and of local memory
        std::map<std::string, Variable> variables;  // .local and .shared of this function
        std::map<std::string, std::vector<std::string>> branch_targets;
        std::set<std::string> labels_used, labels_defined;
        std::uint64_t shared = 0;
        bool uses_module_shared = false, has_calls = false, needs_carry = false;
        bool new_block = true;
        SourceLocation where, shown;
        bool line_open = false;
        int unique = 0;
    };
    Body body_;
    // Where the code that .loc names was inlined: from the innermost function outwards.
    std::map<std::tuple<int, int, int>, std::vector<SourceLocation>> inlined_;
};

}  // namespace ptx2cpp
