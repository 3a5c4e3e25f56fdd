#include "diffusion/files.h"

#include <fstream>
#include <sstream>

#include "core/error.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    require(file.is_open(), "{}: cannot be opened for reading", path.string());
    std::ostringstream text;
    text << file.rdbuf();
    require(!file.bad(), "{}: reading failed", path.string());
    return text.str();
}

void make_folder(const fs::path& path) {
    std::error_code error;
    fs::create_directories(path, error);
    require(!error, "{}: the folder cannot be created: {}", path.string(), error.message());
}

}  // namespace ito::diffusion
