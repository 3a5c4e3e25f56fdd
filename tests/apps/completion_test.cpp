// The completion of bash knows every command and option that --help shows. The script is loaded by a real bash,
// which is asked what it would offer.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <regex>
#include <set>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

using Words = std::set<std::string>;

Words words_of(const std::string& text) {
    std::istringstream in(text);
    return {std::istream_iterator<std::string>(in), {}};
}

/// An option or positional as --help shows it: its names, its type ("" for a flag), its explanation.
struct HelpLine {
    Words names;
    std::string type, text;
};

std::vector<HelpLine> help_lines(const Arguments& command) {
    const auto help = ito(command + Arguments{"--help"});
    expect_success(help);
    static const std::regex form(
        R"(  ((?:-[a-z],)?(--[a-z0-9-]+)|([A-Z]+))(?: ([A-Z]+)\S*(?: REQUIRED| \.\.\.)*)? +(.*))");
    std::istringstream in(help.out);
    std::vector<HelpLine> lines;
    for (std::string line; std::getline(in, line);) {
        std::smatch match;
        EXPECT_LE(line.size(), 110u) << line;
        if (!std::regex_match(line, match, form)) continue;
        const std::string names = std::regex_replace(match[1].str(), std::regex(","), " ");
        lines.push_back({words_of(names), match[4].str(), match[5].str()});
    }
    return lines;
}

/// The commands below `command`, {} being the program.
std::vector<std::string> commands(const Arguments& command = {}) {
    const std::string help = ito(command + Arguments{"--help"}).out;
    std::vector<std::string> names;
    if (help.find("Subcommands:") == std::string::npos) return names;
    std::istringstream in(help.substr(help.find("Subcommands:")));
    std::string line;
    for (std::getline(in, line); std::getline(in, line) && line.starts_with("  ");)
        names.push_back(line.substr(2, line.find(' ', 2) - 2));
    return names;
}

/// All commands as they are typed: {"train"}, {"bench"}, {"bench", "kernels"} ...
std::vector<Arguments> typed_commands() {
    std::vector<Arguments> all;
    for (const auto& name : commands()) {
        all.push_back({name});
        for (const auto& below : commands({name})) all.push_back({name, below});
    }
    return all;
}

/// What is offered for each of the half-typed lines, asked in one bash whose current folder is `folder`.
class Bash {
  public:
    Bash() {
        const auto script = ito({"completion", "bash"});
        expect_success(script);
        folder_.write("ito.bash", script.out);
        fs::create_directories(folder_ / "here/a folder");
        folder_.write("here/a file", "");
    }

    std::vector<Words> ask(const std::vector<std::string>& lines) const {
        constexpr const char* driver = R"(
            source "$1"
            [[ $(complete -p ito) == *"-F _ito ito" ]] || { echo "not registered" >&2; exit 1; }
            while IFS= read -r line; do
                read -ra COMP_WORDS <<<"$line"
                [[ $line != *' ' ]] || COMP_WORDS+=('')
                COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
                COMPREPLY=(stale)
                _ito ito "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
                printf '%s\t' "${COMPREPLY[@]}"
                echo
            done <"$2")";
        std::string queries;
        for (const auto& line : lines) queries += line + "\n";
        const auto file = folder_.write("queries", queries);
        const auto result =
            testing::run_command("/bin/bash", {"--norc", "-uc", driver, "bash", folder_ / "ito.bash", file},
                                 {.folder = folder_ / "here"});
        EXPECT_EQ(result.status, 0);
        EXPECT_EQ(result.err, "");
        std::vector<Words> offers;
        std::istringstream in(result.out);
        for (std::string line; std::getline(in, line);) {
            std::istringstream parts(line);
            offers.emplace_back();
            for (std::string part; std::getline(parts, part, '\t');)
                if (!part.empty()) offers.back().insert(part);
        }
        EXPECT_EQ(offers.size(), lines.size()) << result.out;
        offers.resize(lines.size());
        return offers;
    }

    Words ask(const std::string& line) const { return ask(std::vector{line}).front(); }

  private:
    TemporaryFolder folder_;
};

TEST(Completion, OffersEveryOptionOfEveryCommand) {
    const Bash bash;
    const auto all = commands();
    ASSERT_GE(all.size(), 5u);
    EXPECT_EQ(bash.ask("ito "), Words(all.begin(), all.end()));
    const auto typed = typed_commands();
    ASSERT_GT(typed.size(), all.size()) << "bench kernels";
    for (const auto& words : typed) {
        const std::string command = fmt::format("{}", fmt::join(words, " "));
        Words names;
        for (const auto& line : help_lines(words))
            for (const auto& name : line.names)
                if (name.starts_with('-')) names.insert(name);
        ASSERT_TRUE(names.contains("--help")) << command;
        EXPECT_EQ(bash.ask("ito " + command + " -"), names) << command;
        // Each is offered when half of it is typed, also after other options.
        std::vector<std::string> halves;
        for (const auto& name : names)
            halves.push_back("ito " + command + " --help " + name.substr(0, name.size() / 2 + 1));
        const auto offers = bash.ask(halves);
        for (std::size_t i = 0; const auto& name : names)
            EXPECT_TRUE(offers[i++].contains(name)) << command << " " << name;
    }
    EXPECT_EQ(bash.ask("ito -"), (Words{"-h", "--help", "--version"}));
    EXPECT_EQ(bash.ask("ito tr"), Words{"train"});
    EXPECT_EQ(bash.ask("ito train --dev"), Words{"--device"});
    EXPECT_EQ(bash.ask("ito paint --"), Words{});
}

TEST(Completion, OffersTheValuesOfEveryOptionThatHasSome) {
    const Bash bash;
    for (const auto& words : typed_commands())
        for (const auto& line : help_lines(words)) {
            const std::string command = fmt::format("{}", fmt::join(words, " "));
            const bool positional = !line.names.begin()->starts_with('-');
            const std::string typed = "ito " + command + (positional ? " " : " " + *line.names.begin() + " ");
            if (line.type.empty()) continue;
            const Words offered = bash.ask(typed);
            if (line.type != "TEXT") {
                EXPECT_EQ(offered, Words{}) << typed << ": a number is no word";
                continue;
            }
            EXPECT_FALSE(offered.empty())
                << typed << ": add its values to known_values() in apps/completion.cpp";
            for (const auto& word : offered)
                EXPECT_TRUE(word.starts_with("a f") || line.text.find(word) != std::string::npos)
                    << typed << ": offers " << word << ", but its help says " << line.text;
        }
}

TEST(Completion, KnowsFilesFromFolders) {
    const Bash bash;
    EXPECT_EQ(bash.ask("ito train --out "), Words{"a folder"});
    EXPECT_EQ(bash.ask("ito sample "), Words{"a folder"});
    EXPECT_EQ(bash.ask("ito sample --out "), (Words{"a folder", "a file"}));
    EXPECT_EQ(bash.ask("ito train --data "), (Words{"a folder", "fashion-mnist", "mnist", "cifar10"}));
    EXPECT_EQ(bash.ask("ito train --data fa"), Words{"fashion-mnist"});
    EXPECT_EQ(bash.ask("ito train --device = c"), (Words{"cpu", "cuda"})) << "--device=c";
    EXPECT_EQ(bash.ask("ito train --device ="), (Words{"auto", "cpu", "cuda"})) << "--device=";
    EXPECT_EQ(bash.ask("ito completion "), Words{"bash"});
    EXPECT_EQ(bash.ask("ito bench --size mnist k"), Words{"kernels"});
    EXPECT_EQ(bash.ask("ito bench kernels --device "), (Words{"auto", "cpu", "cuda"}));
    EXPECT_EQ(bash.ask("ito train kernels --out "), Words{"a folder"});
}

TEST(Completion, RefusesOtherShells) {
    expect_refused(ito({"completion", "zsh"}), {"zsh", "expected bash"});
    expect_refused(ito({"completion"}), {"SHELL", "ito completion --help"});
}

}  // namespace
}  // namespace ito::apps
