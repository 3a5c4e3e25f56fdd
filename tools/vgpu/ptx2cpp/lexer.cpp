#include "tools/vgpu/ptx2cpp/lexer.h"

#include <cctype>

namespace ptx2cpp {
namespace {

bool word_start(char c) {
    return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '%' || c == '$';
}
bool word_part(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
}

}  // namespace

std::vector<Token> tokenize(std::string_view text) {
    std::vector<Token> tokens;
    int line = 1;
    std::size_t i = 0;
    const auto at = [&](std::size_t k) { return k < text.size() ? text[k] : '\0'; };
    while (i < text.size()) {
        const char c = text[i];
        if (c == '\n') {
            ++line;
            ++i;
        } else if (std::isspace(static_cast<unsigned char>(c)) != 0) {
            ++i;
        } else if (c == '/' && at(i + 1) == '/') {
            while (i < text.size() && text[i] != '\n') {
                ++i;
            }
        } else if (c == '/' && at(i + 1) == '*') {
            i += 2;
            while (i < text.size() && !(text[i] == '*' && at(i + 1) == '/')) {
                line += text[i] == '\n';
                ++i;
            }
            i += 2;
        } else if (c == '"') {
            const std::size_t first = ++i;
            while (i < text.size() && text[i] != '"') {
                i += text[i] == '\\' ? 2 : 1;
            }
            tokens.push_back({TokenKind::string, std::string(text.substr(first, i - first)), line});
            ++i;
        } else if (word_start(c) || (c == '.' && word_start(at(i + 1)))) {
            const std::size_t first = i++;
            while (i < text.size() && (word_part(text[i]) || (text[i] == '.' && word_part(at(i + 1))) ||
                                       (text[i] == ':' && at(i + 1) == ':' && word_part(at(i + 2))) ||
                                       (text[i] == ':' && text[i - 1] == ':'))) {
                ++i;
            }
            // ".reg.b32" is ".reg .b32"
            std::size_t from = first;
            for (std::size_t k = first + 1; c == '.' && k < i; ++k) {
                if (text[k] == '.') {
                    tokens.push_back({TokenKind::word, std::string(text.substr(from, k - from)), line});
                    from = k;
                }
            }
            tokens.push_back({TokenKind::word, std::string(text.substr(from, i - from)), line});
        } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
            const std::size_t first = i;
            while (i < text.size() &&
                   (word_part(text[i]) || text[i] == '.' ||
                    ((text[i] == '-' || text[i] == '+') && (text[i - 1] == 'e' || text[i - 1] == 'E') &&
                     text[first + 1] != 'x' && text[first + 1] != 'f' && text[first + 1] != 'd'))) {
                ++i;
            }
            tokens.push_back({TokenKind::number, std::string(text.substr(first, i - first)), line});
        } else {
            tokens.push_back({TokenKind::symbol, std::string(1, c), line});
            ++i;
        }
    }
    tokens.push_back({TokenKind::end, "", line});
    return tokens;
}

}  // namespace ptx2cpp
