#include "core/error.h"

#include <algorithm>

namespace ito {

std::string excerpt(std::string_view text, std::size_t longest) {
    constexpr std::string_view mark = "...";
    std::string shown(text.substr(0, longest));
    if (text.size() > longest) {
        // Never cuts a UTF-8 character in two: its bytes after the first are 10xxxxxx.
        std::size_t end = longest - std::min(longest, mark.size());
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
        shown.replace(end, std::string::npos, mark);
    }
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; },
        ' ');
    return shown;
}

std::string listed(std::span<const std::string> names, std::size_t most) {
    std::string text;
    for (std::size_t i = 0; i < std::min(names.size(), most); ++i)
        text += (i > 0 ? ", " : "") + excerpt(names[i], 200);
    if (names.size() > most) text += fmt::format(" and {} more", names.size() - most);
    return text;
}

}  // namespace ito
