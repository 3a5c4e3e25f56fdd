#include "core/json_depth.h"

#include "core/error.h"

namespace ito {

void require_shallow_json(std::string_view text, const std::string& file) {
    constexpr int deepest = 64;
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '"') in_string = !in_string;
        if (in_string) {
            if (c == '\\') ++i;  // what follows, perhaps a quote, is part of the string
        } else if (c == '[' || c == '{') {
            require(++depth <= deepest, "{}: JSON nested deeper than {} levels", file, deepest);
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
}

}  // namespace ito
