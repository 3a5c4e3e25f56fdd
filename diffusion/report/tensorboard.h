#pragma once
// Event files as TensorBoard reads them. A file is a sequence of records
//
//   length (uint64) | masked CRC-32C of it (uint32) | data | masked CRC-32C of that (uint32)      little-endian
//
// whose data is the protocol buffer tensorflow.Event: a wall time, a step, and scalars or images under their tags.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffusion/image/image.h"

namespace ito::diffusion {

/// CRC-32 with Castagnoli's polynomial, which zlib does not have.
std::uint32_t crc32c(std::string_view bytes);

/// Writes one event file of a folder, tensorboard/events.out.tfevents.<seconds>.<number>, for one command. The next
/// command begins the next file.
class TensorboardWriter {
  public:
    using Clock = std::function<double()>;  ///< seconds since 1970

    /// Removes what earlier commands wrote past `steps_done`: those steps are about to be done again. Also removes the
    /// scalars of steps that are not multiples of `every`: they sum up the few steps before an end, which are in the next
    /// line too. An open TensorBoard is told to forget both.
    TensorboardWriter(const std::filesystem::path& folder, std::int64_t steps_done, std::int64_t every,
                      Clock clock = now);

    /// Scalars of one step, in that order.
    void scalars(std::int64_t step, std::span<const std::pair<std::string, double>> values);
    void image(std::int64_t step, const std::string& tag, const Image& image);

    static double now();

  private:
    void write(std::int64_t step, const std::string& rest);

    std::filesystem::path path_;
    std::ofstream file_;
    Clock clock_;
};

}  // namespace ito::diffusion
