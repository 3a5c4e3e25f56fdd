// Models as others saved them: what ito opens makes the images of the same weights in ito's own form, and what it does not open
// it names in one line.

#include "tests/apps/saved_pipeline.h"

namespace ito::apps {
namespace {

class Pipelines : public SavedPipeline {};

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
