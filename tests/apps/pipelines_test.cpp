// Models as others saved them: what ito opens makes the images of the same weights in ito's own form, and what it does not open
// it names in one line.

#include <fmt/format.h>

#include <bit>
#include <chrono>

#include "core/float16.h"
#include "core/safetensors.h"
#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* usual = "diffusion_pytorch_model.safetensors";

/// Tensors of a file, to be changed and written elsewhere.
struct Tensors {
    struct One {
        SafetensorsType type;
        std::vector<std::int64_t> shape;
        std::vector<std::byte> data;
    };
    std::map<std::string, One> all;

    static Tensors of(const fs::path& path) {
        const SafetensorsFile file(path);
        Tensors tensors;
        for (const auto& [name, entry] : file.tensors())
            tensors.all[name] = {entry.dtype, entry.shape, file.read(entry)};
        return tensors;
    }
    void write(const fs::path& path) const {
        fs::create_directories(path.parent_path());
        std::vector<SafetensorsItem> items;
        for (const auto& [name, one] : all) items.push_back({name, one.type, one.shape, one.data});
        write_safetensors(path, items);
    }
    /// Every value through `change`, which gives that of the new type.
    template <class T, class Change>
    Tensors as(SafetensorsType type, Change&& change) const {
        Tensors result;
        for (const auto& [name, one] : all) {
            std::vector<T> values;
            for (std::size_t i = 0; i < one.data.size(); i += sizeof(float)) {
                float value = 0;
                std::memcpy(&value, &one.data[i], sizeof value);
                values.push_back(change(value));
            }
            const auto bytes = std::as_bytes(std::span(values));
            result.all[name] = {type, one.shape, {bytes.begin(), bytes.end()}};
        }
        return result;
    }
    Tensors prefixed(const std::string& prefix) const {
        Tensors result;
        for (const auto& [name, one] : all) result.all[prefix + name] = one;
        return result;
    }
};

SafetensorsType type_named(const char* name) {
    return *SafetensorsType::named(name);
}

/// Towards zero, and zero where float16 has only subnormal values.
std::uint16_t half_of(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const int exponent = static_cast<int>(bits >> 23 & 255) - 112;
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    if (exponent <= 0) return sign;
    return static_cast<std::uint16_t>(sign | exponent << 10 | (bits >> 13 & 1023));
}

/// A trained model for all tests, and a copy of its pipeline for each to change.
class Pipelines : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        shared_ = std::make_unique<TemporaryFolder>();
        write_pngs(*shared_, "data", 12, 8, 8);
        expect_success(
            ito(train_tiny((*shared_ / "data").string(), *shared_ / "run") + Arguments{"--steps", "3"}));
    }
    static void TearDownTestSuite() { shared_.reset(); }
    void SetUp() override { save_pipeline("p"); }

    fs::path path(const std::string& name) const { return folder_ / name; }
    /// What diffusers saves of a model: its pipeline alone.
    void save_pipeline(const std::string& name) const {
        fs::create_directories(path(name));
        for (const char* part : {"model_index.json", "unet", "scheduler"})
            fs::copy(*shared_ / "run" / part, path(name) / part, fs::copy_options::recursive);
    }
    static Tensors ema() { return Tensors::of(*shared_ / "run/unet" / usual); }
    static Tensors raw() { return Tensors::of(*shared_ / "run/trainer/step-00000003/weights.safetensors"); }

    Arguments sample(const std::string& name, const Arguments& more = {}) const {
        return Arguments{"sample", path(name).string(),    "--num",     "2", "--sampling-steps", "2",
                         "--out",  path("x.png").string(), "--threads", "1", "--force"} +
               more;
    }
    /// The picture that a model makes, and the lines before it.
    std::string picture(const std::string& name, std::initializer_list<const char*> notes = {},
                        const Arguments& more = {}) {
        const auto result = ito(sample(name, more));
        expect_success(result);
        for (const char* note : notes)
            EXPECT_NE(result.out.find(note), std::string::npos) << result.out << "lacks " << note;
        if (notes.size() == 0) {
            EXPECT_TRUE(result.out.starts_with("2 of 20 timesteps")) << result.out;
        }
        return TemporaryFolder::read(path("x.png"));
    }
    /// Of these weights in ito's own form.
    std::string picture_of(const Tensors& tensors) {
        if (!fs::exists(path("own"))) save_pipeline("own");
        tensors.write(path("own/unet") / usual);
        return picture("own");
    }
    void refused(const std::string& name, std::initializer_list<const char*> parts,
                 const Arguments& more = {}) {
        const auto before = files_below(folder_.path());
        expect_refused(ito(sample(name, more)), parts);
        EXPECT_TRUE(files_below(folder_.path()) == before);
    }
    void edit(const std::string& name, const std::function<void(Json&)>& change) {
        Json json = Json::parse(TemporaryFolder::read(path(name)));
        change(json);
        folder_.write(name, json.dump(2));
    }
    /// The weights of folder `unet` in two files and their index, with the variant "v" of both names.
    void shard(const std::string& unet, const Tensors& tensors) {
        Tensors parts[2];
        Json map;
        std::size_t bytes = 0, i = 0;
        for (const auto& [name, one] : tensors.all) {
            const std::size_t part = i++ % 2;
            parts[part].all[name] = one;
            map[name] = fmt::format("diffusion_pytorch_model-0000{}-of-00002.safetensors", part + 1);
            bytes += one.data.size();
        }
        for (int part : {0, 1})
            parts[part].write(path(unet) /
                              fmt::format("diffusion_pytorch_model-0000{}-of-00002.safetensors", part + 1));
        folder_.write(unet + "/" + usual + ".index.json",
                      Json{{"metadata", {{"total_size", bytes}}}, {"weight_map", map}}.dump(2));
    }
    void set_age(const std::string& name, int seconds) {
        fs::last_write_time(path(name), fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
    }

    static std::unique_ptr<TemporaryFolder> shared_;
    TemporaryFolder folder_;
};

std::unique_ptr<TemporaryFolder> Pipelines::shared_;

TEST_F(Pipelines, TypesAreConvertedAndNamed) {
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

TEST_F(Pipelines, ATrainingGoesOnWithItsOwnTypeOnly) {
    fs::copy(*shared_ / "run", path("run"), fs::copy_options::recursive);
    raw()
        .as<std::uint16_t>(type_named("F16"), half_of)
        .write(path("run/trainer/step-00000003/weights.safetensors"));
    expect_refused(ito({"train", "--resume", path("run").string(), "--steps", "4"}),
                   {"weights.safetensors", "is F16; expected F32"});
}

TEST_F(Pipelines, Shards) {
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
TEST_F(Pipelines, TheNewerOfOneFileAndShards) {
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

TEST_F(Pipelines, Variants) {
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

TEST_F(Pipelines, ANetworkAlone) {
    const std::string expected = picture("p");
    EXPECT_EQ(picture("p/unet", {"schedule: of ", "p/scheduler/scheduler_config.json\n"}), expected);
    fs::create_directories(path("alone"));
    fs::copy(path("p/unet"), path("alone/net"));
    for (const Arguments& more : {Arguments{}, Arguments{"--weights"}})
        expect_success(ito(Arguments{"inspect", path("alone/net").string()} + more));
    refused("alone/net", {"scheduler_config.json", "noise schedule is missing", "config.json",
                          "scheduler.save_pretrained"});
    fs::copy(path("p/scheduler/scheduler_config.json"), path("alone/net/scheduler_config.json"));
    EXPECT_EQ(picture("alone/net"), expected);
    refused(std::string("p/unet/") + usual, {"is a file", "its folder"});
}

TEST_F(Pipelines, ATrainingByDiffusers) {
    const std::string of_ema = picture_of(ema()), of_raw = picture_of(raw());
    for (const char* step : {"500", "1000"}) {
        const std::string checkpoint = std::string("out/checkpoint-") + step;
        for (const char* network : {"unet", "unet_ema"}) {
            fs::create_directories(path(checkpoint) / network);
            fs::copy(path("p/unet/config.json"), path(checkpoint) / network / "config.json");
        }
        raw().write(path(checkpoint + "/unet") / usual);
        ema().write(path(checkpoint + "/unet_ema") / usual);
        // The average's own fields stand in its configuration.
        edit(checkpoint + "/unet_ema/config.json",
             [](Json& json) { json["decay"] = 0.9999, json["power"] = 0.75; });
    }
    refused("out", {"checkpoint-500, checkpoint-1000", "such as ", "out/checkpoint-1000"});
    refused("out/checkpoint-500", {"noise schedule is missing", "unet/, unet_ema/"});
    fs::copy(path("p/scheduler"), path("out/scheduler"), fs::copy_options::recursive);
    EXPECT_EQ(picture("out/checkpoint-500", {"weights: of unet_ema, the average", "schedule: of "}), of_ema);
    EXPECT_EQ(picture("out/checkpoint-500/", {"weights: of unet, not of unet_ema"}, {"--weights", "raw"}),
              of_raw);
    const auto shown = ito({"inspect", path("out/checkpoint-500").string(), "--weights", "--raw"});
    expect_success(shown);
    EXPECT_TRUE(shown.out.starts_with("weights: of unet, not")) << shown.out;
    fs::remove_all(path("out/checkpoint-500/unet"));
    refused("out/checkpoint-500", {"no unet/config.json", "--weights ema"}, {"--weights", "raw"});
    EXPECT_EQ(picture("out/checkpoint-500", {"schedule: of "}), of_ema);
    fs::remove_all(path("out/checkpoint-1000/unet_ema"));
    EXPECT_EQ(picture("out/checkpoint-1000", {"schedule: of "}), of_raw);
    refused("out/checkpoint-1000", {"only the ema weights", "--weights ema"}, {"--weights", "raw"});
}

TEST_F(Pipelines, TheHubsCache) {
    const std::string expected = picture("p"), model = "hub/models--org--name";
    const std::string a = model + "/snapshots/aaaa", b = model + "/snapshots/bbbb";
    save_pipeline(a);
    EXPECT_EQ(picture(model, {"model: snapshot aaaa of the Hub's cache\n"}), expected);
    save_pipeline(b);
    refused(model, {"several snapshots (aaaa, bbbb)", "no refs/main", "snapshots/aaaa"});
    folder_.write(model + "/refs/main", "bbbb\n");
    raw().write(path(a) / "unet" / usual);
    EXPECT_EQ(picture(model, {"snapshot bbbb"}), expected);
    EXPECT_EQ(picture(b), expected);
    // The files of a snapshot are links.
    fs::create_directories(path(model + "/blobs"));
    fs::rename(path(b) / "unet" / usual, path(model + "/blobs/0123"));
    fs::create_symlink("../../../blobs/0123", path(b) / "unet" / usual);
    EXPECT_EQ(picture(model, {"snapshot bbbb"}), expected);
    refused("hub", {"holds no model", "models--org--name"});

    fs::remove(path(model + "/blobs/0123"));
    for (const std::string& name : {model, b}) refused(name, {"(a link to nothing)", "hf download org/name"});
    fs::remove(path(b + "/scheduler/scheduler_config.json"));
    refused(model, {"scheduler_config.json", "missing", "hf download org/name"});
    fs::remove(path(b + "/unet/config.json"));
    refused(model, {"unet/config.json is missing", "hf download org/name"});
    folder_.write(model + "/refs/main", "../../..\n");
    refused(model, {"refs/main", "aaaa, bbbb", "hf download org/name"});
    fs::remove_all(path(model + "/snapshots"));
    fs::create_directories(path(model + "/snapshots"));
    refused(model, {"holds no snapshot", "hf download org/name"});
}

TEST_F(Pipelines, NamesWithAPrefix) {
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

TEST_F(Pipelines, FilesOfOtherKinds) {
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

TEST_F(Pipelines, OnlyThoseOfPixels) {
    const std::string index = "p/model_index.json", good = TemporaryFolder::read(path(index)),
                      expected = picture("p");
    const auto refused_with = [&](const std::function<void(Json&)>& change,
                                  std::initializer_list<const char*> parts) {
        edit(index, change);
        refused("p", parts);
        refused("p/unet", parts);
        folder_.write(index, good);
    };
    for (const char* name : {"DDPMPipeline", "DDIMPipeline", "PNDMPipeline"}) {
        edit(index, [&](Json& json) { json["_class_name"] = name, json["vae"] = {nullptr, nullptr}; });
        EXPECT_EQ(picture("p"), expected);
    }
    edit(index, [](Json& json) { json["_class_name"] = "MyPipeline", json["eta"] = 0.5; });
    EXPECT_EQ(picture("p", {"pipeline: MyPipeline, sampled as a DDPMPipeline\n"}), expected);
    folder_.write(index, good);
    refused_with(
        [](Json& json) {
            json["vqvae"] = {"diffusers", "VQModel"};
        },
        {"model_index.json", "with vqvae", "latents, not pixels"});
    refused_with(
        [](Json& json) {
            json["_class_name"] = "StableDiffusionPipeline";
            json["text_encoder"] = {"transformers", "CLIPTextModel"};
            json["vae"] = {"diffusers", "AutoencoderKL"};
        },
        {"a StableDiffusionPipeline with vae", "latents, not pixels"});
    refused_with([](Json& json) { json["_class_name"] = "LDMPipeline"; }, {"LDMPipeline", "latents"});
    refused_with(
        [](Json& json) {
            json["text_encoder"] = {"transformers", "CLIPTextModel"};
        },
        {"text_encoder", "depend on a text"});
    refused_with([](Json& json) { json["mel"] = {"diffusers", "Mel"}; }, {"mel", "sound"});
    refused_with(
        [](Json& json) {
            json["unet"] = {"diffusers", "UNet2DConditionModel"};
        },
        {"\"unet\"", "UNet2DConditionModel"});
    refused_with([](Json& json) { json.erase("unet"); }, {"without \"unet\""});
    refused_with([](Json& json) { json.erase("_class_name"); }, {"model_index.json", "no \"_class_name\""});
    refused_with([](Json& json) { json["unet"] = {1, 2}; }, {"\"unet\" is [1,2]"});
    // Without the index the folders tell; and an index that a cache has lost is not passed over.
    fs::remove(path("p/model_index.json"));
    fs::create_directory(path("p/vqvae"));
    expect_refused(ito(sample("p")), {"lies beside vqvae/", "does not make pixels"});
    fs::remove(path("p/vqvae"));
    fs::create_symlink("../blobs/gone", path("p/model_index.json"));
    expect_refused(ito(sample("p")), {"model_index.json: is a link to nothing"});
    fs::remove(path("p/model_index.json"));
    folder_.write(index, good);
    edit(index, [](Json& json) { json["vae"] = {"diffusers", "AutoencoderKL"}; });
    expect_success(ito({"inspect", path("p").string()}));
    // Without a network that ito knows the pipeline is named too.
    fs::remove_all(path("p/unet"));
    refused("p", {"a DDPMPipeline with vae"});
    fs::remove(path(index));
    save_pipeline("q");
    edit("q/unet/config.json", [](Json& json) { json["_class_name"] = "UNet2DConditionModel"; });
    refused("q", {"config.json", "UNet2DConditionModel", "UNet2DModel"});
}

TEST_F(Pipelines, WhatIsMissingIsNamedWithWhatIsThere) {
    refused("nowhere", {"no such folder", "a run"});
    fs::create_directories(path("empty"));
    refused("empty", {"unet/config.json is missing", "no files", "save_pretrained"});
    folder_.write("other/photo.png", "");
    folder_.write("other/notes.txt", "");
    refused("other", {"unet/config.json is missing", "there are: notes.txt, photo.png"});
    for (int i = 0; i < 15; ++i) folder_.write(fmt::format("many/{:02}", i), "");
    refused("many", {"00, 01, 02", "09 and 5 more"});
    fs::remove(path("p/unet") / usual);
    refused("p", {"the weights are missing", "there are: config.json", "save the model again"});
    fs::remove(path("p/unet/config.json"));
    folder_.write("p/unet/x", "");
    refused("p", {"unet/config.json is missing", "in unet there are: x"});
    refused("", {"holds no model", "such as "});
    fs::copy(*shared_ / "run/config.json", path("other/config.json"));
    refused("other", {"unet/config.json is missing", "config.json, notes.txt"});
}

}  // namespace
}  // namespace ito::apps
