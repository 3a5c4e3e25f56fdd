#pragma once
// The fields of a configuration file of diffusers: none is dropped without a word.

#include <set>
#include <string>
#include <vector>

namespace ito::nn {

/// The names that a reader knows: those that it asked for, and those that change nothing for it.
class KnownFields {
  public:
    void add(const std::string& name) { names_.insert(name); }

    /// One line for the user that names the fields of `file` which are not known; empty if all are. Names that begin with
    /// an underscore are diffusers' own notes, which its loader skips too.
    std::string note(const std::vector<std::string>& fields, const std::string& file) const;

  private:
    std::set<std::string> names_;
};

}  // namespace ito::nn
