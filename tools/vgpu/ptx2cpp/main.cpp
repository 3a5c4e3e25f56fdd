// ptx2cpp in.{ptx,fatbin} -o out.cpp [--module ID] [--source PATH] [--mutate K,K,...], or --list-mutants instead of -o
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tools/vgpu/fatbin.h"
#include "tools/vgpu/ptx2cpp/translator.h"

namespace {

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        throw ptx2cpp::Error(path + ": cannot be read");
    }
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::set<int> numbers(const std::string& list) {
    std::set<int> result;
    std::istringstream in(list);
    for (std::string part; std::getline(in, part, ',');) {
        std::size_t used = 0;
        try {
            result.insert(std::stoi(part, &used));
        } catch (const std::logic_error&) {
            used = 0;
        }
        if (used == 0 || used != part.size()) {
            throw ptx2cpp::Error("--mutate " + list + ": expected numbers with commas between them");
        }
    }
    return result;
}

int run(int argc, char** argv) {
    std::string input, output, module, source;
    std::set<int> mutants;
    bool list = false;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument == "-o" && i + 1 < argc) {
            output = argv[++i];
        } else if (argument == "--module" && i + 1 < argc) {
            module = argv[++i];
        } else if (argument == "--source" && i + 1 < argc) {
            source = argv[++i];
        } else if (argument == "--mutate" && i + 1 < argc) {
            mutants = numbers(argv[++i]);
        } else if (argument == "--list-mutants") {
            list = true;
        } else if (argument[0] != '-' && input.empty()) {
            input = argument;
        } else {
            input.clear();
            break;
        }
    }
    if (input.empty() || output.empty() != list) {
        std::fprintf(
            stderr,
            "usage: ptx2cpp in.ptx|in.fatbin -o out.cpp [--module ID] [--source PATH] [--mutate K,K,...]\n"
            "       ptx2cpp in.ptx|in.fatbin [--source PATH] --list-mutants\n"
            "Translates PTX (as written by nvcc for compute_80) to C++ for the virtual GPU.\n"
            "ID is the module's number; by default the FNV-1a hash of the PTX text.\n"
            "PATH is that of the .cu file in its project: the project's files are called by such paths in "
            "the C++,\n"
            "wherever the project lay when nvcc ran (a compiler cache remembers other checkouts).\n"
            "--mutate puts mutants in: the environment's VGPU_MUTANT says which of them runs, if any.\n"
            "--list-mutants prints all: number, kernel, file, line, instruction, change.\n");
        return 2;
    }
    const std::string bytes = read_file(input);
    std::string_view text = bytes;
    if (bytes.size() >= 16 && std::memcmp(bytes.data(), &vgpu::fatbin_magic, 4) == 0) {
        text = vgpu::fatbin_ptx(bytes.data());
        if (text.empty()) {
            throw ptx2cpp::Error(input +
                                 ": holds no uncompressed PTX; compile with -gencode "
                                 "arch=compute_80,code=compute_80 -no-compress");
        }
    }
    const std::uint64_t id =
        module.empty() ? vgpu::module_id(text) : std::strtoull(module.c_str(), nullptr, 0);
    ptx2cpp::Translator first(text, id, input);
    first.name_files_beside(source);
    first.mutate(mutants);
    std::string code = first.run();
    const int count = static_cast<int>(first.mutants().size());
    if (!mutants.empty() && (*mutants.begin() < 0 || *mutants.rbegin() >= count)) {
        throw ptx2cpp::Error("--mutate: mutants are numbered from 0 to " + std::to_string(count - 1));
    }
    if (list) {
        for (int k = 0; k < count; ++k) {
            const ptx2cpp::MutantPlace& m = first.mutants()[static_cast<std::size_t>(k)];
            std::printf("%d\t%s\t%s\t%d\t%s\t%s\n", k, m.kernel.c_str(), m.file.c_str(), m.line,
                        m.text.c_str(), m.change.c_str());
        }
        return 0;
    }
    if (first.module_shared() != 0) {
        ptx2cpp::Translator second(text, id, input, first.module_shared());
        second.name_files_beside(source);
        second.mutate(mutants);
        code = second.run();
    }
    std::ofstream out(output, std::ios::binary);
    out << code;
    out.close();
    if (!out) {
        std::remove(output.c_str());
        throw ptx2cpp::Error(output + ": cannot be written");
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ptx2cpp: %s\n", error.what());
        return 1;
    }
}
