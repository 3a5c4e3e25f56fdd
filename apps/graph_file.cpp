#include "apps/graph_file.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "core/autograd/graphviz.h"
#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/input_file.h"

extern char** environ;

namespace ito::apps {
namespace {

namespace fs = std::filesystem;

bool is_picture(const fs::path& file) {
    return file.extension() == ".svg";
}

bool has_dot() {
    const char* path = std::getenv("PATH");
    std::istringstream folders(path != nullptr ? path : "");
    for (std::string folder; std::getline(folders, folder, ':');)
        if (access((fs::path(folder) / "dot").c_str(), X_OK) == 0) return true;
    return false;
}

/// Runs `dot -Tsvg -o picture source`.
void draw(const std::string& source, const std::string& picture) {
    std::string format = "-Tsvg", output = "-o", name = "dot", from = source, to = picture;
    const std::array<char*, 6> arguments{name.data(), format.data(), output.data(),
                                         to.data(),   from.data(),   nullptr};
    pid_t child = 0;
    int status = 1;
    const int error = posix_spawnp(&child, "dot", nullptr, nullptr, arguments.data(), environ);
    require(error == 0 && waitpid(child, &status, 0) == child && status == 0,
            "--graph {}: Graphviz's dot failed; a name that ends in .dot is written without it", picture);
}

}  // namespace

std::unique_ptr<OutputFile> open_graph_file(const std::string& file, bool force) {
    require(is_picture(file) || fs::path(file).extension() == ".dot",
            "--graph {}: expected a name that ends in .dot or .svg", file);
    require(!is_picture(file) || has_dot(),
            "--graph {}: needs Graphviz's dot, which is not installed; sudo apt-get install graphviz, or "
            "give a name that ends in .dot",
            file);
    return std::make_unique<OutputFile>("--graph", file, force, ", or add --force to replace it");
}

fs::path write_graph(OutputFile& file, const Tensor& root) {
    const std::string graph = autograd::to_dot(root);
    if (!is_picture(file.path())) return file.write(graph);
    const std::string source = file.path().string() + ".dot.tmp", picture = file.path().string() + ".tmp";
    const auto remove = [&] {
        std::error_code ignored;
        for (const std::string& path : {source, picture}) fs::remove(path, ignored);
    };
    try {
        write_file_atomically(source, graph);
        draw(source, picture);
        const fs::path written = file.write(FileContent(picture).text());
        remove();
        return written;
    } catch (...) {
        remove();
        throw;
    }
}

}  // namespace ito::apps
