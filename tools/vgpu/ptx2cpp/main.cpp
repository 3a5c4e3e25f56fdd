// ptx2cpp in.{ptx,fatbin} -o out.cpp [--module ID]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
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

int run(int argc, char** argv) {
    std::string input, output, module;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument == "-o" && i + 1 < argc) {
            output = argv[++i];
        } else if (argument == "--module" && i + 1 < argc) {
            module = argv[++i];
        } else if (argument[0] != '-' && input.empty()) {
            input = argument;
        } else {
            input.clear();
            break;
        }
    }
    if (input.empty() || output.empty()) {
        std::fprintf(stderr,
                     "usage: ptx2cpp in.ptx|in.fatbin -o out.cpp [--module ID]\n"
                     "Translates PTX (as written by nvcc for compute_80) to C++ for the virtual GPU.\n"
                     "ID is the module's number; by default the FNV-1a hash of the PTX text.\n");
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
    std::string code = first.run();
    if (first.module_shared() != 0) {
        code = ptx2cpp::Translator(text, id, input, first.module_shared()).run();
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
