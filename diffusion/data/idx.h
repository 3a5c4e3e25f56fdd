#pragma once
// The IDX format of MNIST and its relatives: big-endian magic 0x00000803 (images) or 0x00000801 (labels), one
// 32-bit extent per dimension, then bytes. Plain or gzipped, told apart by content.

#include <filesystem>

#include "diffusion/data/dataset.h"

namespace ito::diffusion {

/// Grayscale images, and their labels unless that path is empty. The files must be exactly as long as their
/// headers say.
Dataset load_idx(const std::filesystem::path& images, const std::filesystem::path& labels = {});

/// The four files {train,t10k}-{images,labels}; each "train-images-idx3-ubyte" or "train-images.idx3-ubyte",
/// with or without .gz. Labels 0 to 9.
Dataset load_mnist(const std::filesystem::path& folder, Split split);

/// The same for Fashion-MNIST, with its class names; an empty folder means that of Debian's dataset-fashion-mnist.
Dataset load_fashion_mnist(const std::filesystem::path& folder, Split split);

}  // namespace ito::diffusion
