#pragma once
// The images of a sampling as single files, for programs that compute FID and the like.

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

    /// Makes the folder, or goes on in it. Two samplings with the same `settings` give the same images; throws Error if the
    /// folder's pictures were made with others. `unwritten` has the values of settings that an older version did not record.
    ImageFolder(std::filesystem::path folder, const nlohmann::ordered_json& settings,
                const nlohmann::ordered_json& unwritten);

    /// Also false if the file is empty or cut short, as a copy that was stopped leaves it: then it is made again.
    bool has(std::int64_t index) const;
    void write(std::int64_t index, const diffusion::Image& image) const;

  private:
    std::filesystem::path file(std::int64_t index) const;

    std::filesystem::path folder_;
};

/// A checksum of the network, its weights and its noise schedule.
std::string fingerprint(const diffusion::Pipeline& pipeline);

}  // namespace ito::apps
