#pragma once
// What a text needs before the JSON library reads it: a guard, since that reads any depth but prints, copies and compares by
// recursion; and quotes around numbers that are none in JSON.

#include <string>
#include <string_view>

namespace ito {

/// Throws Error naming the file if the brackets of a JSON text nest deeper than any file of this project does: a
/// megabyte of them would exhaust the stack.
void require_shallow_json(std::string_view text, const std::string& file);

/// Python writes numbers that JSON does not have: NaN, Infinity and -Infinity become strings here ("NaN"), which whoever reads
/// such a field refuses by its name, and nobody else minds.
std::string quote_python_numbers(std::string_view text);

}  // namespace ito
