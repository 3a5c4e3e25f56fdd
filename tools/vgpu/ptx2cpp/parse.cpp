// Tokens to operands and instructions.
#include "tools/vgpu/ptx2cpp/translator.h"

namespace ptx2cpp {

const Token& Translator::peek(std::size_t ahead) const {
    return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
}

Token Translator::next() {
    const Token token = peek();
    if (position_ + 1 < tokens_.size()) {
        ++position_;
    }
    return token;
}

bool Translator::accept(const char* text) {
    if (peek().kind != TokenKind::string && peek().text == text) {
        next();
        return true;
    }
    return false;
}

void Translator::expect(const char* text) {
    if (!accept(text)) {
        fail(std::string("expected '") + text + "', found '" + peek().text + "'");
    }
}

void Translator::fail(const std::string& what) const {
    throw Error(source_name_ + ":" + std::to_string(peek().line) + ": " + what);
}

std::uint64_t Translator::integer(const std::string& digits) const {
    std::string s = digits;
    while (!s.empty() && (s.back() == 'U' || s.back() == 'u')) {
        s.pop_back();
    }
    try {
        std::size_t used = 0;
        std::uint64_t result = 0;
        if (s.size() > 2 && s[0] == '0' && (s[1] == 'b' || s[1] == 'B')) {
            result = std::stoull(s.substr(2), &used, 2);
            used += 2;
        } else {
            result = std::stoull(s, &used, 0);
        }
        if (used == s.size()) {
            return result;
        }
    } catch (const std::exception&) {
    }
    fail("not an integer: " + digits);
}

std::uint64_t Translator::constant_unary() {
    if (accept("-")) {
        return 0 - constant_unary();
    }
    if (accept("+")) {
        return constant_unary();
    }
    if (accept("~")) {
        return ~constant_unary();
    }
    if (accept("!")) {
        return constant_unary() == 0 ? 1 : 0;
    }
    if (accept("(")) {
        const std::uint64_t result = constant_expression();
        expect(")");
        return result;
    }
    if (peek().kind != TokenKind::number) {
        fail("expected a constant, found '" + peek().text + "'");
    }
    return integer(next().text);
}

std::uint64_t Translator::constant_expression() {
    std::uint64_t result = constant_unary();
    for (;;) {
        if (accept("+")) {
            result += constant_unary();
        } else if (accept("-")) {
            result -= constant_unary();
        } else if (accept("*")) {
            result *= constant_unary();
        } else {
            return result;
        }
    }
}

namespace {

bool is_special(const std::string& name) {
    static const std::set<std::string> names = {"%tid",
                                                "%ntid",
                                                "%ctaid",
                                                "%nctaid",
                                                "%laneid",
                                                "%warpid",
                                                "%nwarpid",
                                                "%smid",
                                                "%nsmid",
                                                "%gridid",
                                                "%clock",
                                                "%clock_hi",
                                                "%clock64",
                                                "%globaltimer",
                                                "%globaltimer_lo",
                                                "%globaltimer_hi",
                                                "%lanemask_eq",
                                                "%lanemask_le",
                                                "%lanemask_lt",
                                                "%lanemask_ge",
                                                "%lanemask_gt",
                                                "%dynamic_smem_size",
                                                "%total_smem_size",
                                                "%aggr_smem_size",
                                                "%is_explicit_cluster",
                                                "%clusterid",
                                                "%nclusterid",
                                                "%cluster_ctaid",
                                                "%cluster_nctaid",
                                                "%cluster_ctarank",
                                                "%cluster_nctarank",
                                                "WARP_SZ"};
    return names.count(name.substr(0, name.find('.'))) != 0;
}

}  // namespace

Operand Translator::address() {
    Operand o;
    o.kind = OperandKind::address;
    if (peek().kind == TokenKind::word) {
        o.name = next().text;
        o.base_is_reg = find_register(o.name) != nullptr;
        if (accept("+")) {
            o.value = constant_expression();
        } else if (peek().text == "-") {
            o.value = constant_expression();
        }
    } else {
        o.value = constant_expression();
    }
    expect("]");
    return o;
}

Operand Translator::operand() {
    Operand o;
    if (accept("[")) {
        return address();
    }
    if (accept("{")) {
        o.kind = OperandKind::vector;
        while (!accept("}")) {
            o.elements.push_back(operand());
            accept(",");
        }
        return o;
    }
    if (peek().text == "!" && peek(1).kind == TokenKind::word) {
        next();
        o = operand();
        o.negated = true;
        return o;
    }
    if (peek().kind == TokenKind::number || peek().text == "-" || peek().text == "+" || peek().text == "~" ||
        peek().text == "(" || peek().text == "!") {
        const bool minus = peek().text == "-" && peek(1).kind == TokenKind::number;
        const std::string digits = minus ? peek(1).text : peek().text;
        const bool hex_real =
            digits.size() > 2 && digits[0] == '0' && std::string("fFdD").find(digits[1]) != std::string::npos;
        if (hex_real) {
            if (minus) {
                next();
            }
            next();
            const bool single = digits[1] == 'f' || digits[1] == 'F';
            o.kind = single ? OperandKind::real32 : OperandKind::real64;
            o.value = std::stoull(digits.substr(2), nullptr, 16);
            if (minus) {
                o.value ^= single ? std::uint64_t{1} << 31 : std::uint64_t{1} << 63;
            }
            return o;
        }
        if (digits.find('.') != std::string::npos) {
            if (minus) {
                next();
            }
            next();
            double d = std::stod(digits);
            d = minus ? -d : d;
            o.kind = OperandKind::real64;
            static_assert(sizeof(d) == sizeof(o.value));
            __builtin_memcpy(&o.value, &d, sizeof(d));
            return o;
        }
        o.kind = OperandKind::integer;
        o.value = constant_expression();
        return o;
    }
    if (peek().kind != TokenKind::word) {
        fail("expected an operand, found '" + peek().text + "'");
    }
    o.name = next().text;
    if (o.name == "_") {
        o.kind = OperandKind::sink;
    } else if (find_register(o.name) != nullptr) {
        o.kind = OperandKind::reg;
    } else if (is_special(o.name)) {
        o.kind = OperandKind::special;
    } else {
        o.kind = OperandKind::symbol;
    }
    if (accept("|")) {
        o.second = next().text;
    }
    if (o.kind == OperandKind::symbol && (peek().text == "+" || peek().text == "-")) {
        o.value = constant_expression();
    }
    return o;
}

Instruction Translator::instruction() {
    Instruction i;
    if (accept("@")) {
        i.guard_negated = accept("!");
        i.guard = next().text;
    }
    i.line = peek().line;
    if (peek().kind != TokenKind::word) {
        fail("expected an instruction, found '" + peek().text + "'");
    }
    i.text = next().text;
    std::size_t first = 0;
    for (std::size_t k = 0; k <= i.text.size(); ++k) {
        if (k == i.text.size() || i.text[k] == '.') {
            const std::string part = i.text.substr(first, k - first);
            if (first == 0) {
                i.op = part;
            } else {
                i.modifiers.push_back(part);
            }
            first = k + 1;
        }
    }
    // A call's lists in parentheses become vectors of symbols.
    while (!accept(";")) {
        if (i.op == "call" && accept("(")) {
            Operand list;
            list.kind = OperandKind::vector;
            while (!accept(")")) {
                list.elements.push_back(operand());
                accept(",");
            }
            i.operands.push_back(list);
        } else {
            i.operands.push_back(operand());
        }
        if (!accept(",") && peek().text != ";") {
            fail(i.text + ": expected ',' or ';', found '" + peek().text + "'");
        }
    }
    return i;
}

}  // namespace ptx2cpp
