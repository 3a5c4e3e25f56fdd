#pragma once
// How messages of ito::Error (kernels/common/error.h) are formatted and thrown. A message names the op or file, the value
// found, what was expected and what to do: "conv2d: weight expects 64 input channels, input has 32 (shape [8, 28, 28, 32])".

#include <fmt/format.h>
#include <fmt/ranges.h>  // shapes in messages: [8, 28, 28, 32]

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/common/error.h"

namespace ito {

/// Text from outside for use in a message: control characters become spaces, and text of more than `longest` bytes ends in
/// "...".
std::string excerpt(std::string_view text, std::size_t longest = 80);

/// The first `most` names for use in a message: "a, b, c and 4 more".
std::string listed(std::span<const std::string> names, std::size_t most = 10);

/// Throws an Error whose message is one line, whatever the arguments contain.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    throw Error(excerpt(fmt::format(format, std::forward<Args>(args)...), 2000));
}

/// Throws unless `condition`. The arguments are formatted only on failure.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
    if (!condition) [[unlikely]]
        fail(format, std::forward<Args>(args)...);
}

}  // namespace ito
