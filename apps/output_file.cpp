#include "apps/output_file.h"

#include "apps/machine.h"
#include "core/error.h"

namespace ito::apps {

namespace fs = std::filesystem;

void check_output_file(const char* option, const fs::path& path, bool force, const char* remedy) {
    require(!path.empty(), "{}: the name is empty; expected a file", option);
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    require(fs::is_directory(folder), "{} {}: the folder {} does not exist", option, path.string(),
            folder.string());
    require(!fs::is_directory(path), "{} {}: is a folder", option, path.string());
    require(force || !fs::exists(path), "{} {}: exists already; choose another name{}", option, path.string(),
            remedy);
    require(!fs::exists(path) || fs::is_regular_file(path),
            "{} {}: is no file but a device, a pipe or the like, which is not replaced; choose another name",
            option, path.string());
    const std::string why = why_not_writable(folder);
    require(why.empty(), "{} {}: the folder {} cannot be written to: {}; choose another", option,
            path.string(), folder.string(), why);
}

}  // namespace ito::apps
