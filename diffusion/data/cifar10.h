#pragma once
// CIFAR-10 in its binary version: records of one label byte and 3 planes (red, green, blue) of 32 x 32 bytes.

#include <filesystem>

#include "diffusion/data/dataset.h"

namespace ito::diffusion {

/// Reads data_batch_1.bin to data_batch_5.bin, or test_batch.bin, in the folder or in its cifar-10-batches-bin. A file may have
/// any whole number of records from 1. Class names come from batches.meta.txt if it exists.
Dataset load_cifar10(const std::filesystem::path& folder, Split split);

}  // namespace ito::diffusion
