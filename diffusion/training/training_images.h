#pragma once
// The images of a training, where its kernels read them: bytes, which take a quarter of float32's memory.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/cuda/cuda.h"
#include "core/tensor.h"
#include "diffusion/data/dataset.h"

namespace ito::diffusion {

/// Where the whole data set is.
enum class ImagePlace {
    automatic,  ///< on the device, unless that takes more than half of its free memory
    device,
    host,  ///< in the host's memory; the images of the next step are copied to the device while a step runs
};

/// The pixels of a data set, and those of the current step.
class TrainingImages {
  public:
    /// Takes the pixels of `data`. `step_images`: how many a step uses.
    TrainingImages(Dataset data, Device device, std::int64_t step_images,
                   ImagePlace place = ImagePlace::automatic);
    ~TrainingImages();

    std::int64_t count() const { return size_[0]; }
    std::int64_t height() const { return size_[1]; }
    std::int64_t width() const { return size_[2]; }
    std::int64_t channels() const { return size_[3]; }
    /// Images, height, width, channels.
    const std::array<std::int64_t, 4>& size() const { return size_; }
    bool on_device() const { return !host_; }

    /// Selects the images of the next step by their indices. Enqueues copies, and waits only for those of the step before the
    /// last. `next`: the indices of the step after it, whose copies may begin now.
    void select(std::span<const std::int64_t> indices, std::span<const std::int64_t> next = {});

    // What the kernels of a step read: sample n is image index()[n] of images(). Their addresses never change.
    const Tensor& images() const { return images_; }
    const Tensor& index() const { return index_; }

    /// Copies of some images, on the host.
    Dataset copies(const std::vector<std::int64_t>& indices) const;
    /// Mean square of the pixels, normalised to [-1, 1].
    double second_moment() const { return second_moment_; }

  private:
    std::size_t image_bytes() const { return static_cast<std::size_t>(height() * width() * channels()); }
    void begin_upload(std::span<const std::int64_t> indices);

    std::array<std::int64_t, 4> size_;
    double second_moment_;
    Tensor images_;  // uint8 [count or step_images, H, W, C]
    Tensor index_;   // int64 [step_images]

    // Only if the data set stays on the host.
    std::unique_ptr<std::vector<std::uint8_t>> host_;
    std::unique_ptr<cuda::Prefetch> prefetch_;
    std::vector<std::int64_t> on_the_way_;
};

}  // namespace ito::diffusion
