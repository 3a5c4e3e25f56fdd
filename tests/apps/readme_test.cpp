// The commands that the READMEs and the recipes show exist, with the options that they are shown with.

#include <set>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

/// Every `ito ...` of a text: lines of its code blocks, lines of a recipe's comment, and what stands in backticks.
std::vector<Arguments> commands_in(const std::string& text) {
    std::vector<std::string> pieces;
    std::istringstream lines(text);
    bool fenced = false;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("```")) fenced = !fenced;
        if (fenced || line.starts_with("#   ")) pieces.push_back(line.substr(0, line.find(" # ")));
    }
    std::istringstream spans(text);
    int number = 0;
    for (std::string span; std::getline(spans, span, '`');)
        if (number++ % 2 == 1) pieces.push_back(span);
    std::vector<Arguments> commands;
    for (const auto& piece : pieces) {
        std::istringstream in(piece);
        Arguments words{std::istream_iterator<std::string>(in), {}};
        while (!words.empty() && (words.front() == "#" || words.front() == "source"))
            words.erase(words.begin());
        if (words.size() < 2) continue;
        const std::string& first = words.front();
        if (first == "ito" || first == "<(ito" || first.ends_with("/ito"))
            commands.emplace_back(words.begin() + 1, words.end());
    }
    return commands;
}

/// A command's --help as words, "-h,--help" being two. Asked once of each.
const std::set<std::string>& help_of(const Arguments& command) {
    static std::map<Arguments, std::set<std::string>> known;
    const auto [at, unknown] = known.try_emplace(command);
    if (unknown) {
        std::string text = ito(command + Arguments{"--help"}).out;
        std::replace(text.begin(), text.end(), ',', ' ');
        std::istringstream in(text);
        at->second = {std::istream_iterator<std::string>(in), {}};
    }
    return at->second;
}

/// Empty if there is such a command with such options, else what is wrong.
std::string mistake_in(const Arguments& words) {
    Arguments command;
    for (const auto& word : words) {
        if (word.starts_with('-')) {
            const std::string option = word.substr(0, word.find_first_of("=,.;:)"));
            if (!help_of(command).contains(option)) return option + " is no option";
        } else if (command.empty()) {
            command = {word};
            if (!help_of({}).contains(word)) return word + " is no command";
        } else if (command == Arguments{"bench"} && word == "kernels") {
            command.push_back(word);
        }
    }
    return "";
}

TEST(Readme, ShowsCommandsAndOptionsThatThereAre) {
    const fs::path root = ITO_SOURCE_DIR;
    std::vector<fs::path> files{root / "README.md"};
    for (const char* folder : {"apps", "core", "diffusion", "kernels", "nn", "tests", "tools"})
        for (const auto& entry : fs::recursive_directory_iterator(root / folder))
            if (entry.path().filename() == "README.md" || entry.path().extension() == ".toml")
                files.push_back(entry.path());
    int found = 0;
    std::set<std::string> shown;
    for (const auto& file : files) {
        for (const auto& words : commands_in(TemporaryFolder::read(file))) {
            if (words.front().find_first_not_of("abcdefghijklmnopqrstuvwxyz-") != std::string::npos) continue;
            EXPECT_EQ(mistake_in(words), "") << file << ": ito " << ::testing::PrintToString(words);
            if (file == root / "apps/README.md") shown.insert(words.front());
            ++found;
        }
    }
    EXPECT_GE(found, 40);
    std::istringstream help(ito({"--help"}).out);
    std::string line;
    while (std::getline(help, line) && line != "Subcommands:") continue;
    int commands = 0;
    for (; std::getline(help, line) && line.starts_with("  "); ++commands) {
        const std::string name = line.substr(2, line.find(' ', 2) - 2);
        EXPECT_TRUE(shown.contains(name)) << "apps/README.md has no example of ito " << name;
    }
    EXPECT_GE(commands, 7);
}

TEST(Readme, MistakesAreSeen) {
    const auto mistakes = [](const std::string& text) {
        std::string all;
        for (const auto& words : commands_in(text)) all += mistake_in(words) + ";";
        return all;
    };
    EXPECT_EQ(mistakes("see `ito paint --out a`"), "paint is no command;");
    EXPECT_EQ(mistakes("```sh\nbuild/release/ito train --colour red\n```\n"), "--colour is no option;");
    EXPECT_EQ(mistakes("`ito train --resume RUN\n  --anomalous`"), "--anomalous is no option;");
    EXPECT_EQ(mistakes("`ito bench kernels --size`"), "--size is no option;");
    EXPECT_EQ(mistakes("`ito train --flip=false`, ito trains"), ";");
}

}  // namespace
}  // namespace ito::apps
