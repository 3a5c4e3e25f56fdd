// ito completion: a script with which bash completes ito's commands, options and values. Commands and options come from CLI11;
// the values are those of train_options.def, and for the other options those listed here.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "apps/commands.h"
#include "apps/train_options.h"
#include "apps/version.h"
#include "core/error.h"

namespace ito::apps {
namespace {

/// What may follow an option: words, names of files or folders. Numbers are not completed.
struct Values {
    std::string words = {};
    std::string names = {};  ///< of "files", "folders" or neither
};

/// For the other options: by "command --option", or by "--option" where it means the same in all commands.
const std::map<std::string, Values>& known_values() {
    static const Values folders{.names = "folders"}, files{.names = "files"};
    static const std::map<std::string, Values> values{
        {"--config", files},
        {"--folder", folders},
        {"--graph", files},
        {"--mode", {.words = "train sample both"}},
        {"--out", folders},
        {"--progressive", files},
        {"--resume", folders},
        {"--size", {.words = "mnist cifar10"}},
        {"--trace", files},
        {"--timestep-spacing", {.words = "leading linspace trailing"}},
        {"--variance", {.words = "posterior beta"}},
        {"RUN", folders},
        {"SHELL", {.words = "bash"}},
        {"bench kernels --filter", {.words = "float32 bfloat16 mnist cifar10 silu"}},
        {"sample --out", files},
    };
    return values;
}

Values values_of(const std::string& command, const std::string& option) {
    const auto& known = known_values();
    for (const std::string& key : {fmt::format("{} {}", command, option), option})
        if (const auto at = known.find(key); at != known.end()) return at->second;
    const auto found = find_train_option(option);
    if (!found) return {};
    const bool folders = found->others == diffusion::TrainOption::Others::folders;
    return {fmt::format("{}", fmt::join(found->words, " ")), folders ? "folders" : ""};
}

/// All spellings: "-h", "--help".
std::vector<std::string> spellings(const CLI::Option& option) {
    std::vector<std::string> all;
    for (const auto& name : option.get_snames()) all.push_back("-" + name);
    for (const auto& name : option.get_lnames()) all.push_back("--" + name);
    return all;
}

/// The branches of the script for each command: what may stand in it, and what follows each of its options.
struct Branches {
    std::string commands, values;
    std::vector<std::string> nested;  ///< commands of commands: 'bench kernels'

    void add(const CLI::App& app, const std::string& name) {
        std::vector<std::string> options, below;
        for (const CLI::App* command : app.get_subcommands({})) {
            below.push_back(command->get_name());
            const std::string whole = name.empty() ? below.back() : fmt::format("{} {}", name, below.back());
            if (!name.empty()) nested.push_back(fmt::format("'{}'", whole));
            add(*command, whole);
        }
        Values positional{.words = fmt::format("{}", fmt::join(below, " "))};
        for (const CLI::Option* option : app.get_options({})) {
            if (option->get_positional()) positional = values_of(name, option->get_name(true));
            const bool flag = option->get_items_expected_max() == 0;
            for (const auto& spelling : spellings(*option)) {
                options.push_back(spelling);
                const Values following = values_of(name, spelling);
                if (!flag)
                    values += fmt::format("        '{} {}') _ito_values '{}' '{}' && return ;;\n", name,
                                          spelling, following.words, following.names);
            }
        }
        commands += fmt::format("        '{}') options='{}' words='{}' names='{}' ;;\n", name,
                                fmt::join(options, " "), positional.words, positional.names);
    }
};

constexpr const char* script = R"(# Completion of {version} for bash. Made by: ito completion bash

# Completes $cur by the words $1, and by names of $2: files, folders or nothing.
_ito_values() {{
    local found
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
    case $2 in
        folders) mapfile -t found < <(compgen -d -- "$cur") ;;
        files) mapfile -t found < <(compgen -f -- "$cur") ;;
        *) return 0 ;;
    esac
    COMPREPLY+=("${{found[@]}}")
    compopt -o filenames 2>/dev/null || return 0
}}

_ito() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command='' options words names i
    COMPREPLY=()
    # --option=value comes as three words.
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $previous == = ]]; then
        previous=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((i = 1; i < COMP_CWORD; ++i)); do
        [[ ${{COMP_WORDS[i]}} != -* ]] || continue
        case "$command ${{COMP_WORDS[i]}}" in
            ' '*) command=${{COMP_WORDS[i]}} ;;
            {nested}) command+=" ${{COMP_WORDS[i]}}" ;;
        esac
    done
    case $command in
{commands}        *) return ;;
    esac
    case "$command $previous" in
{values}    esac
    if [[ $cur == -* || -z $words$names ]]; then
        _ito_values "$options" ''
    else
        _ito_values "$words" "$names"
    fi
}}

complete -F _ito ito
)";

std::string bash_script(const CLI::App& root) {
    Branches branches;
    branches.add(root, "");
    return fmt::format(script, fmt::arg("version", version_line()), fmt::arg("commands", branches.commands),
                       fmt::arg("nested", fmt::join(branches.nested, "|")),
                       fmt::arg("values", branches.values));
}

struct CompletionCommand {
    std::string shell;
    const CLI::App* root = nullptr;

    int operator()() const {
        require(shell == "bash", "completion {}: expected bash", shell);
        fmt::print("{}", bash_script(*root));
        return 0;
    }
};

}  // namespace

Action add_completion(CLI::App& app) {
    auto command = std::make_shared<CompletionCommand>();
    command->root = app.get_parent();
    app.add_option("SHELL", command->shell, "bash")->required();
    app.footer("In ~/.bashrc: source <(ito completion bash)");
    return [command] { return (*command)(); };
}

}  // namespace ito::apps
