#pragma once
// What is done to a text before the JSON library reads it. Its depth is checked, because the library parses any depth but
// prints, copies and compares by recursion. Numbers that JSON does not have are quoted.

#include <string>
#include <string_view>

namespace ito {

/// Throws Error naming the file if the brackets of a JSON text nest deeper than any file of this project does: a
/// megabyte of them would exhaust the stack.
void require_shallow_json(std::string_view text, const std::string& file);

/// Turns Python's NaN, Infinity and -Infinity, which JSON does not have, into strings ("NaN"). A reader of such a field refuses
/// the string, naming the field; in other fields it does no harm.
std::string quote_python_numbers(std::string_view text);

}  // namespace ito
