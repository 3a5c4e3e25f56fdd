#pragma once
// The one exception type of the project. A message names the op or file, the value found, what was expected
// and what to do: "conv2d: weight expects 64 input channels, input has 32 (shape [8, 28, 28, 32])".

#include <fmt/format.h>
#include <fmt/ranges.h>  // shapes in messages: [8, 28, 28, 32]

#include <stdexcept>
#include <utility>

namespace ito {

class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws unless `condition`. The arguments are formatted only on failure.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
    if (!condition) [[unlikely]]
        fail(format, std::forward<Args>(args)...);
}

}  // namespace ito
