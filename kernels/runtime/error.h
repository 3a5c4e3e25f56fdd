#pragma once
// The exception of the project. It stands here, at the bottom of the layers, so that kernels throw it too; core/error.h
// adds what formats a message.

#include <stdexcept>

namespace ito {

/// The base of everything that functions of ito throw: `catch (const ito::Error&)` misses nothing. what() is one line for
/// the user.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace ito
