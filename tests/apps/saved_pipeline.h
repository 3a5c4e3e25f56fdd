#pragma once
// A pipeline as diffusers saves it, and its tensors, for tests that write them otherwise.

#include <fmt/format.h>

#include <bit>
#include <chrono>

#include "core/io/float16.h"
#include "core/io/safetensors.h"
#include "tests/apps/shared_run.h"

namespace ito::apps {

using Json = nlohmann::ordered_json;

inline constexpr const char* usual = "diffusion_pytorch_model.safetensors";

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

inline SafetensorsType type_named(const char* name) {
    return *SafetensorsType::named(name);
}

/// Towards zero, and zero where float16 has only subnormal values.
inline std::uint16_t half_of(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const int exponent = static_cast<int>(bits >> 23 & 255) - 112;
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    if (exponent <= 0) return sign;
    return static_cast<std::uint16_t>(sign | exponent << 10 | (bits >> 13 & 1023));
}

/// A trained model for all tests, and a copy of its pipeline for each to change.
class SavedPipeline : public SharedRun<SavedPipeline> {
  public:
    static Arguments training() { return {"--steps", "3"}; }

  protected:
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
};

}  // namespace ito::apps
