// Runs targets on files instead of on mutations of them: ito_fuzz_replay TARGET FILE_OR_FOLDER...
// Every file must go through without a finding; so must its pieces cut short, as a cheap stand-in for mutations.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <vector>

#include "tools/fuzz/fuzz.h"

namespace fs = std::filesystem;
using ito::fuzz::Target;

namespace {

std::map<std::string, Target>& targets() {
    static std::map<std::string, Target> all;
    return all;
}

std::vector<fs::path> files_at(const fs::path& path) {
    if (!fs::is_directory(path)) return {path};
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

void replay(Target target, const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) ito::fail("{}: cannot be opened", path.string());
    const std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const auto bytes = std::as_bytes(std::span(content));
    constexpr std::size_t pieces = 50;
    target(bytes);
    for (std::size_t i = 0; i < pieces; ++i) target(bytes.first(bytes.size() * i / pieces));
}

}  // namespace

ito::fuzz::Registration::Registration(const char* name, Target target) {
    targets()[name] = target;
}

int main(int argc, char** argv) {
    const auto found = targets().find(argc < 2 ? "" : argv[1]);
    if (found == targets().end() || argc < 3) {
        std::fprintf(stderr, "usage: ito_fuzz_replay TARGET FILE_OR_FOLDER...; targets:");
        for (const auto& [name, unused] : targets()) std::fprintf(stderr, " %s", name.c_str());
        std::fprintf(stderr, "\n");
        return 2;
    }
    std::size_t count = 0;
    fs::path path;
    try {
        for (int i = 2; i < argc; ++i)
            for (const fs::path& file : files_at(argv[i])) {
                path = file;
                replay(found->second, file);
                ++count;
            }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "FOUND: %s: %s\n", path.c_str(), error.what());
        return 1;
    }
    std::printf("%s: %zu files\n", found->first.c_str(), count);
    return count == 0 ? 1 : 0;
}
