// Weights as others saved them: other types, several files, other names. What ito opens makes the images of the same weights in
// its own form, and what it does not open it names in one line.

#include "tests/apps/saved_pipeline.h"

namespace ito::apps {
namespace {

class SavedWeights : public SavedPipeline {};

TEST_F(SavedWeights, TypesAreConvertedAndNamed) {
    const std::string file = std::string("p/unet/") + usual;
    const Tensors weights = ema();
    EXPECT_EQ(picture("p"), picture_of(weights));

    weights.as<std::uint16_t>(type_named("F16"), half_of).write(path(file));
    EXPECT_EQ(
        picture("p", {"weights: float16, converted to float32\n"}),
        picture_of(weights.as<float>(DType::float32, [](float v) { return float_of_half(half_of(v)); })));
    weights.as<bfloat16>(DType::bfloat16, [](float v) { return bfloat16(v); }).write(path(file));
    EXPECT_EQ(picture("p", {"weights: bfloat16, converted to float32\n"}),
              picture_of(weights.as<float>(DType::float32,
                                           [](float v) { return static_cast<float>(bfloat16(v)); })));
    // Rounded to the nearest, which is the value that was there.
    Tensors wide = weights.as<double>(DType::float64, [](float v) { return v * (1 + 1e-12); });
    wide.write(path(file));
    EXPECT_EQ(picture("p", {"weights: float64, converted to float32\n"}), picture_of(weights));
    wide.all["conv_in.bias"] = weights.all.at("conv_in.bias");
    wide.write(path(file));
    EXPECT_EQ(picture("p", {"weights: float32 and float64, converted"}), picture_of(weights));

    const auto text = ito({"inspect", path("p").string(), "--weights"});
    expect_success(text);
    EXPECT_TRUE(text.out.starts_with("weights: float32 and float64, converted")) << text.out;
    const auto json = ito({"inspect", path("p").string(), "--weights", "--json"});
    expect_success(json);
    EXPECT_EQ(Json::parse(json.out)["notes"].size(), 1u);

    const double large = 1e39;
    std::memcpy(wide.all["conv_out.bias"].data.data(), &large, sizeof large);
    wide.write(path(file));
    refused("p", {usual, "\"conv_out.bias\"", "1e+39", "too large for float32"});
    for (const char* type : {"F8_E4M3", "I8", "BOOL"}) {
        weights.as<std::uint8_t>(type_named(type), [](float) { return std::uint8_t{1}; }).write(path(file));
        refused("p", {usual, type, "F32, F16, BF16 or F64"});
    }
}

TEST_F(SavedWeights, ATrainingGoesOnWithItsOwnTypeOnly) {
    fs::copy(*shared_ / "run", path("run"), fs::copy_options::recursive);
    raw()
        .as<std::uint16_t>(type_named("F16"), half_of)
        .write(path("run/trainer/step-00000003/weights.safetensors"));
    expect_refused(ito({"train", "--resume", path("run").string(), "--steps", "4"}),
                   {"weights.safetensors", "is F16; expected F32"});
}

TEST_F(SavedWeights, Shards) {
    const std::string index = std::string("p/unet/") + usual + ".index.json";
    const std::string first = "p/unet/diffusion_pytorch_model-00001-of-00002.safetensors";
    const std::string expected = picture("p");
    fs::remove(path("p/unet") / usual);
    shard("p/unet", ema());
    EXPECT_EQ(picture("p"), expected);
    const std::string good = TemporaryFolder::read(path(index));

    const auto refused_with = [&](const std::function<void(Json&)>& change,
                                  std::initializer_list<const char*> parts) {
        edit(index, change);
        refused("p", parts);
        folder_.write(index, good);
    };
    edit(index, [](Json& json) { json["metadata"]["total_size"] = 12; });
    EXPECT_EQ(picture("p", {"\"total_size\" is 12 bytes, the shards hold "}), expected);
    edit(index, [](Json& json) { json.erase("metadata"); });
    EXPECT_EQ(picture("p"), expected);
    refused_with([](Json& json) { json.erase("weight_map"); }, {"index.json", "no \"weight_map\""});
    refused_with([](Json& json) { json["weight_map"] = Json::object(); },
                 {"index.json", "\"weight_map\" is {}"});
    refused_with([](Json& json) { json["weight_map"]["conv_in.bias"] = 7; },
                 {"\"weight_map\"", "\"conv_in.bias\" is 7"});
    for (const char* name : {"../x.safetensors", "/etc/passwd", "..", "", "a\\b"})
        refused_with([&](Json& json) { json["weight_map"]["conv_in.bias"] = name; },
                     {"\"weight_map\"", "\"conv_in.bias\"", "in the same folder"});
    refused_with([](Json& json) { json["metadata"] = 3; }, {"\"metadata\" is 3"});
    refused_with([](Json& json) { json["metadata"]["total_size"] = "3"; }, {"\"total_size\" is \"3\""});
    refused_with([](Json& json) { json["weight_map"]["conv_in.bias"] = "x.safetensors"; },
                 {"of 3 shards 1 are missing: x.safetensors"});
    refused_with([](Json& json) { json["weight_map"].erase("conv_in.bias"); },
                 {"does not name tensor \"conv_in.bias\"", "save the model again"});
    refused_with([](Json& json) { json["weight_map"]["more"] = json["weight_map"]["conv_in.bias"]; },
                 {"tensor \"more\" should lie in", "does not"});
    refused_with(
        [](Json& json) {
            std::string& file = json["weight_map"]["conv_in.bias"].get_ref<std::string&>();
            file[file.find("-0000") + 5] = static_cast<char>('1' + '2' - file[file.find("-0000") + 5]);
        },
        {"tensor \"conv_in.bias\" should lie in", "and lies in"});
    folder_.write(index, good.substr(0, good.size() / 2));
    refused("p", {"index.json", "not a JSON object", "cut short"});
    folder_.write(index, "version https://git-lfs.github.com/spec/v1\n");
    refused("p", {"index.json", "a Git LFS pointer"});
    fs::remove(path(index));
    refused("p", {"the weights are missing", "00001-of-00002", "get the shards' .index.json too"});
    folder_.write(index, good);
    fs::remove(path(first));
    refused("p", {"of 2 shards 1 are missing: diffusion_pytorch_model-00001-of-00002.safetensors"});
}

// Saving over an older model leaves the older one's files where they are.
TEST_F(SavedWeights, TheNewerOfOneFileAndShards) {
    const std::string file = std::string("p/unet/") + usual, index = file + ".index.json";
    const std::string of_ema = picture_of(ema()), of_raw = picture_of(raw());
    ASSERT_NE(of_ema, of_raw);
    shard("p/unet", raw());
    set_age(file, 100);
    EXPECT_EQ(picture("p", {"weights: the shards of ", "newer than diffusion_pytorch_model.safetensors\n"}),
              of_raw);
    set_age(index, 200);
    EXPECT_EQ(picture("p", {"weights: diffusion_pytorch_model.safetensors, newer than the shards of "}),
              of_ema);
    set_age(file, 201);
    refused("p", {"neither of which is clearly newer", "remove the one"});
}

TEST_F(SavedWeights, Variants) {
    const std::string of_ema = picture_of(ema()), of_raw = picture_of(raw());
    const auto file = [&](const char* variant) {
        return path("p/unet") / fmt::format("diffusion_pytorch_model.{}.safetensors", variant);
    };
    raw().write(file("fp16"));
    EXPECT_EQ(picture("p"), of_ema) << "the plain one";
    EXPECT_EQ(picture("p", {}, {"--variant", "fp16"}), of_raw);
    refused("p", {"--variant bf16", "diffusion_pytorch_model.fp16.safetensors"}, {"--variant", "bf16"});
    fs::remove(path("p/unet") / usual);
    EXPECT_EQ(picture("p", {"weights: diffusion_pytorch_model.fp16.safetensors, the only ones there\n"}),
              of_raw);
    ema().write(file("non_ema"));
    refused("p", {"several weights", "fp16.safetensors", "non_ema.safetensors", "--variant fp16"});
    EXPECT_EQ(picture("p", {}, {"--variant", "non_ema"}), of_ema);
    for (const char* command : {"inspect", "figures"}) {
        Arguments arguments = {command, path("p").string()};
        if (command == std::string("inspect")) {
            arguments.push_back("--weights");
        } else {
            arguments =
                arguments + Arguments{"--steps", "2", "--images", "1", "--out", path("figures").string()};
        }
        expect_refused(ito(arguments), {"several weights"});
        expect_success(ito(arguments + Arguments{"--variant", "fp16"}));
    }
    fs::remove(file("fp16"));
    fs::rename(file("non_ema"), path("p/unet/model.safetensors"));
    EXPECT_EQ(picture("p", {"weights: model.safetensors, the only ones there\n"}), of_ema);
    fs::rename(path("p/unet/model.safetensors"), path("p/unet/diffusion_pytorch_model.bin"));
    refused("p", {"weights are missing", "diffusion_pytorch_model.bin", "safe_serialization=True"});
    refused("p", {"--variant", "--weights raw"}, {"--variant", "fp16", "--weights", "raw"});
    expect_refused(ito({"inspect", path("p").string(), "--variant", "fp16"}), {"--variant", "--weights"});
}

TEST_F(SavedWeights, NamesWithAPrefix) {
    const std::string expected = picture("p");
    const fs::path file = path("p/unet") / usual;
    for (const char* prefix :
         {"module.", "_orig_mod.", "model.", "unet.", "ema_model.", "_orig_mod.module."}) {
        ema().prefixed(prefix).write(file);
        EXPECT_EQ(picture("p", {fmt::format("weights: names without the prefix \"{}\"\n", prefix).c_str()}),
                  expected);
    }
    Tensors whole = ema().prefixed("unet.");
    const Tensors::One other = whole.all.begin()->second;
    for (const char* name : {"vae.a", "vae.b", "text_encoder.c"}) whole.all[name] = other;
    whole.write(file);
    refused("p", {usual, "3 tensors have no place", "vae.* (2), text_encoder.c",
                  "save what is under \"unet.\" alone"});
    Tensors none;
    none.all["vae.a"] = none.all["vae.b"] = other;
    none.write(file);
    refused("p", {usual, "has no tensor \"", "it has vae.* (2)"});
    Tensors().write(file);
    refused("p", {usual, "has no tensor \"", "it has none"});
}

TEST_F(SavedWeights, FilesOfOtherKinds) {
    using namespace std::string_literals;
    const std::pair<std::string, const char*> kinds[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n", "a Git LFS pointer"},
        {"<!DOCTYPE html><html></html>", "an HTML page"},
        {"", "an empty file"},
        {"PK\x03\x04\x14\0archive/data.pkl"s, "a ZIP archive"},
        {"\x80\x02}q\0X"s, "a Python pickle"},
        {"GGUF\3\0\0\0\0\0\0\0"s, "a GGUF file"}};
    for (const auto& [content, kind] : kinds) {
        folder_.write(std::string("p/unet/") + usual, content);
        refused("p", {usual, kind, "not a safetensors file"});
    }
    for (const char* name : {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json"}) {
        const std::string before = TemporaryFolder::read(path("p") / name);
        folder_.write(std::string("p/") + name, kinds[0].first);
        refused("p", {name, "a Git LFS pointer", "git lfs pull"});
        folder_.write(std::string("p/") + name, before);
    }
}

}  // namespace
}  // namespace ito::apps
