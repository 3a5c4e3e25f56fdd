// Networks that diffusers saved give the same output for the same input in ito. Made by
// tools/fixtures/diffusers_unet.py.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/autograd/node.h"
#include "core/io/safetensors.h"
#include "nn/state.h"
#include "nn/unet.h"
#include "tests/support/temporary_folder.h"

namespace ito::nn {
namespace {

const std::filesystem::path fixtures = std::filesystem::path(ITO_SOURCE_DIR) / "tests/nn/diffusers";

template <class T>
Tensor read(const SafetensorsFile& file, const char* name) {
    const auto& entry = file.at(name);
    std::vector<T> values(entry.bytes / sizeof(T));
    file.read(entry, std::as_writable_bytes(std::span(values)));
    return Tensor::from(values, entry.shape);
}

class Diffusers : public ::testing::TestWithParam<const char*> {};

TEST_P(Diffusers, SameOutput) {
    const auto folder = fixtures / GetParam();
    UNet model(UNetConfig::from_json(testing::TemporaryFolder::read(folder / "config.json"), "config.json"));
    EXPECT_TRUE(
        load_weights(WeightFiles(folder / "diffusion_pytorch_model.safetensors"), model.named_parameters())
            .empty());
    model.eval();

    const SafetensorsFile expected(folder / "expected.safetensors");
    const autograd::NoGrad no_grad;
    const auto y =
        model.forward(read<float>(expected, "x"), read<std::int64_t>(expected, "t")).to_vector<float>();
    const auto want = read<float>(expected, "y").to_vector<float>();
    ASSERT_EQ(y.size(), want.size());
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        difference += (y[i] - want[i]) * (y[i] - want[i]);
        norm += want[i] * want[i];
    }
    EXPECT_LT(std::sqrt(difference / norm), 2e-6);

    // ito writes what diffusers wrote: the same names, shapes and values.
    const testing::TemporaryFolder temporary;
    save_tensors(temporary / "again.safetensors", model.named_parameters());
    const SafetensorsFile theirs(folder / "diffusion_pytorch_model.safetensors"),
        ours(temporary / "again.safetensors");
    ASSERT_EQ(ours.tensors().size(), theirs.tensors().size());
    for (const auto& [name, entry] : theirs.tensors()) {
        const auto& own = ours.at(name, entry.shape);
        EXPECT_EQ(ours.read(own), theirs.read(entry)) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Saved, Diffusers, ::testing::Values("ho2020", "defaults"));

}  // namespace
}  // namespace ito::nn
