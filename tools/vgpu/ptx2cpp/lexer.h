// Tokens of PTX. Words keep their dots ("ld.global.f32", "%tid.x", ".reg"), because the grammar never needs them apart.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ptx2cpp {

enum class TokenKind { word, number, string, symbol, end };

struct Token {
    TokenKind kind = TokenKind::end;
    std::string text;
    int line = 0;
};

class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

std::vector<Token> tokenize(std::string_view text);

}  // namespace ptx2cpp
