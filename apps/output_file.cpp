#include "apps/output_file.h"

#include <unistd.h>

#include "core/error.h"

namespace ito::apps {

namespace fs = std::filesystem;

void check_output_file(const char* option, const fs::path& path, bool force, const char* remedy) {
    require(!path.empty(), "{}: the name is empty; expected a file", option);
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    require(fs::is_directory(folder), "{} {}: the folder {} does not exist", option, path.string(),
            folder.string());
    require(access(folder.c_str(), W_OK) == 0, "{} {}: the folder {} cannot be written to", option,
            path.string(), folder.string());
    require(!fs::is_directory(path), "{} {}: is a folder", option, path.string());
    require(force || !fs::exists(path), "{} {}: exists already; choose another name{}", option, path.string(),
            remedy);
}

}  // namespace ito::apps
