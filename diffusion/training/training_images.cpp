#include "diffusion/training/training_images.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "core/context.h"

namespace ito::diffusion {
namespace {

double mean_square(const std::vector<std::uint8_t>& bytes) {
    double sum = 0;
    for (const std::uint8_t byte : bytes) {
        const double x = byte / 127.5 - 1;
        sum += x * x;
    }
    return sum / static_cast<double>(bytes.size());
}

bool stays_on_the_host(std::size_t bytes, Device device, ImagePlace place) {
    if (device.is_cpu() || place == ImagePlace::device) return false;
    return place == ImagePlace::host || bytes > cuda::device_info(device.index).free / 2;
}

}  // namespace

TrainingImages::TrainingImages(Dataset data, Device device, std::int64_t step_images, ImagePlace place)
    : size_{data.count, data.height, data.width, data.channels},
      second_moment_(mean_square(data.images)),
      index_(Tensor::empty({step_images}, DType::int64, device)) {
    const auto shape = [&](std::int64_t images) { return Shape{images, height(), width(), channels()}; };
    if (!stays_on_the_host(data.images.size(), device, place)) {
        images_ = Tensor::from(data.images, shape(count()), device);
        return;
    }
    host_ = std::make_unique<std::vector<std::uint8_t>>(std::move(data.images));
    images_ = Tensor::empty(shape(step_images), DType::uint8, device);
    std::vector<std::int64_t> all(static_cast<std::size_t>(step_images));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    index_.copy_(Tensor::from(all, {step_images}));
    prefetch_ = cuda::make_prefetch(device.index, static_cast<std::size_t>(step_images) * image_bytes(),
                                    allocator_of(device));
}

TrainingImages::~TrainingImages() = default;

void TrainingImages::begin_upload(std::span<const std::int64_t> indices) {
    auto* to = static_cast<std::uint8_t*>(prefetch_->buffer());
    for (const std::int64_t i : indices) {
        std::memcpy(to, host_->data() + static_cast<std::size_t>(i) * image_bytes(), image_bytes());
        to += image_bytes();
    }
    prefetch_->begin();
    on_the_way_.assign(indices.begin(), indices.end());
}

void TrainingImages::select(std::span<const std::int64_t> indices, std::span<const std::int64_t> next) {
    require(static_cast<std::int64_t>(indices.size()) == index_.dim(0),
            "training: {} indices for steps of {} images", indices.size(), index_.dim(0));
    if (!host_) {
        index_.copy_(Tensor::from(indices, index_.shape()));
        return;
    }
    // Not the step that was expected (after a resume, for example): its images are uploaded now.
    if (!std::equal(indices.begin(), indices.end(), on_the_way_.begin(), on_the_way_.end()))
        begin_upload(indices);
    prefetch_->finish(images_.raw());
    images_.bump_version();
    on_the_way_.clear();
    if (!next.empty()) begin_upload(next);
}

Dataset TrainingImages::copies(const std::vector<std::int64_t>& indices) const {
    Dataset some{.count = static_cast<std::int64_t>(indices.size()),
                 .height = height(),
                 .width = width(),
                 .channels = channels(),
                 .images = {},
                 .labels = {},
                 .label_names = {}};
    for (const std::int64_t i : indices) {
        if (host_) {
            const auto begin =
                host_->begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(i) * image_bytes());
            some.images.insert(some.images.end(), begin, begin + static_cast<std::ptrdiff_t>(image_bytes()));
        } else {
            const auto image = images_.slice(0, i, 1).to_vector<std::uint8_t>();
            some.images.insert(some.images.end(), image.begin(), image.end());
        }
    }
    return some;
}

}  // namespace ito::diffusion
