#include "core/io/json_depth.h"

#include <algorithm>

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
            if (c == '\\') ++i;  // the next character, perhaps a quote, is part of the string
        } else if (c == '[' || c == '{') {
            require(++depth <= deepest, "{}: JSON nested deeper than {} levels", file, deepest);
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
}

std::string quote_python_numbers(std::string_view text) {
    std::string quoted;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t length = 1;
        bool number = false;
        if (!in_string)
            for (const std::string_view word : {"NaN", "-Infinity", "Infinity"})
                if (text.substr(i).starts_with(word)) {
                    length = word.size();
                    number = true;
                    break;
                }
        if (text[i] == '"') in_string = !in_string;
        if (in_string && text[i] == '\\') length = std::min<std::size_t>(2, text.size() - i);
        if (number) quoted += '"';
        quoted += text.substr(i, length);
        if (number) quoted += '"';
        i += length;
    }
    return quoted;
}

}  // namespace ito
