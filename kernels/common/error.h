#pragma once
// The exception of the project. It is defined here, in the lowest layer, so that kernels can throw it; core/error.h formats
// its messages.

#include <stdexcept>

namespace ito {

/// The base of everything that ito throws, except std::bad_alloc when the host has no memory left. what() is one line for the
/// user.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace ito
