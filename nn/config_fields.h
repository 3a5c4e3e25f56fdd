#pragma once
// The fields of a configuration file of diffusers. A field that ito does not know is reported.

#include <set>
#include <string>
#include <vector>

namespace ito::nn {

/// The names that a reader knows: those that it reads, and those that do not matter to it.
class KnownFields {
  public:
    void add(const std::string& name) { names_.insert(name); }

    /// One line for the user that names the unknown fields of `file`; empty if there are none. Names that begin with an
    /// underscore are diffusers' own notes, which its loader skips too.
    std::string note(const std::vector<std::string>& fields, const std::string& file) const;

  private:
    std::set<std::string> names_;
};

}  // namespace ito::nn
