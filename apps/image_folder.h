#pragma once
// Images of a sampling as single files: what programs that compute FID and the like read.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "diffusion/image/image.h"
#include "diffusion/pipeline/pipeline.h"

namespace ito::apps {

/// A folder with 000000.png and so on, and sampling.json, which says how they were made. Several processes may fill one
/// folder.
class ImageFolder {
  public:
    static constexpr std::int64_t most = 1'000'000;  ///< images: their names have six digits

    /// Makes the folder, or goes on in it. Throws Error where it holds pictures that were not made by `settings`, whose
    /// values tell whether two samplings give the same images. What an older version did not write down has its value in
    /// `unwritten`.
    ImageFolder(std::filesystem::path folder, const nlohmann::ordered_json& settings,
                const nlohmann::ordered_json& unwritten);

    /// False too where the file is empty or cut short, as a copy that was stopped leaves it: it is made again.
    bool has(std::int64_t index) const;
    void write(std::int64_t index, const diffusion::Image& image) const;

  private:
    std::filesystem::path file(std::int64_t index) const;

    std::filesystem::path folder_;
};

/// A checksum of the network, its weights and its noise schedule.
std::string fingerprint(const diffusion::Pipeline& pipeline);

}  // namespace ito::apps
