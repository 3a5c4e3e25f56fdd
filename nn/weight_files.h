#pragma once
// Weights that another program saved: one safetensors file, or several and their index.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/io/safetensors.h"

namespace ito::nn {

/// The tensors of all files by name. The constructor reads and checks the headers; tensors are read when they are needed.
class WeightFiles {
  public:
    /// `path`: a safetensors file, or the index (a name that ends in .json) of several in its folder. Throws Error naming
    /// files that are missing, and tensors that do not lie where the index says.
    explicit WeightFiles(const std::filesystem::path& path);

    struct Place {
        const SafetensorsFile* file;
        const SafetensorsEntry* entry;
    };
    const std::map<std::string, Place>& tensors() const { return tensors_; }
    const std::filesystem::path& path() const { return path_; }
    std::size_t files() const { return files_.size(); }
    /// Lines for the user: oddities of weights that can be used.
    const std::vector<std::string>& notes() const { return notes_; }

  private:
    void open_shards();

    std::filesystem::path path_;
    std::vector<std::unique_ptr<SafetensorsFile>> files_;
    std::map<std::string, Place> tensors_;
    std::vector<std::string> notes_;
};

/// The values of a tensor as float32: float16 and bfloat16 are exact, float64 is rounded. Throws Error naming file and tensor
/// for other types, and for a value that is too large.
std::vector<float> read_float32(const SafetensorsFile& file, const std::string& name,
                                const SafetensorsEntry& entry);

}  // namespace ito::nn
