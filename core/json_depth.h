#pragma once
// A guard before the JSON library, which reads any depth but prints, copies and compares by recursion.

#include <string>
#include <string_view>

namespace ito {

/// Throws Error naming the file if the brackets of a JSON text nest deeper than any file of this project does: a
/// megabyte of them would exhaust the stack.
void require_shallow_json(std::string_view text, const std::string& file);

}  // namespace ito
