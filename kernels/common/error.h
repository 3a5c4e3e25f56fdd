#pragma once
// The exception of the project. It stands here, at the bottom of the layers, so that kernels throw it too; core/error.h
// adds what formats a message.

#include <stdexcept>

namespace ito {

/// The base of everything that functions of ito throw, but for std::bad_alloc where the host has no memory left. what() is one
/// line for the user.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace ito
