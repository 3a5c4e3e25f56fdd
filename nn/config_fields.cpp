#include "nn/config_fields.h"

#include "core/error.h"

namespace ito::nn {

std::string KnownFields::note(const std::vector<std::string>& fields, const std::string& file) const {
    constexpr std::size_t most = 5;
    std::string names;
    std::size_t count = 0;
    for (const auto& field : fields) {
        if (field.starts_with('_') || names_.contains(field)) continue;
        if (++count <= most) names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", excerpt(field, 40));
    }
    if (count == 0) return {};
    if (count > most) names += fmt::format(" and {} more", count - most);
    return excerpt(
        fmt::format("{}: ito does not know {}, and ignores {}", file, names, count == 1 ? "it" : "them"),
        2000);
}

}  // namespace ito::nn
