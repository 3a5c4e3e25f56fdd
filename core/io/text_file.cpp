#include "core/io/text_file.h"

#include "core/error.h"
#include "core/io/file_kind.h"
#include "core/io/input_file.h"

namespace ito {

namespace fs = std::filesystem;

bool present(const fs::path& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

std::string read_text(const fs::path& path) {
    return std::string(FileContent(path).text());
}

std::string read_json_text(const fs::path& path) {
    std::string text = read_text(path);
    require_json_kind(text, path.string());
    return text;
}

void make_folder(const fs::path& path) {
    std::error_code error;
    fs::create_directories(path, error);
    require(!error, "{}: the folder cannot be created: {}", path.string(), error.message());
}

}  // namespace ito
