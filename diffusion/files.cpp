#include "diffusion/files.h"

#include "core/error.h"
#include "core/input_file.h"

namespace ito::diffusion {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
    return std::string(FileContent(path).text());
}

void make_folder(const fs::path& path) {
    std::error_code error;
    fs::create_directories(path, error);
    require(!error, "{}: the folder cannot be created: {}", path.string(), error.message());
}

}  // namespace ito::diffusion
