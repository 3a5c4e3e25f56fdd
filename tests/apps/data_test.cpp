// Every kind of data that ito train takes, and what it says about bad data and bad options.

#include <zlib.h>

#include "tests/apps/ito_command.h"

namespace ito::apps {
namespace {

std::string idx(std::initializer_list<std::uint32_t> header, const std::string& data) {
    std::string bytes;
    for (const std::uint32_t word : header)
        for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(word >> shift);
    return bytes + data;
}

std::string pixels(std::size_t count) {
    std::string data(count, '\0');
    for (std::size_t i = 0; i < count; ++i) data[i] = static_cast<char>(i * i % 251);
    return data;
}

class Data : public ::testing::Test {
  protected:
    std::string at(const std::string& name) const { return (folder_ / name).string(); }

    /// Trains 2 steps, checks the announced size, draws one image.
    void expect_trains(const std::string& data, const Arguments& more, const std::string& announced) {
        const auto out = at("run-" + std::to_string(runs_++));
        const auto result = ito(train_tiny(data, out) + Arguments{"--steps", "2", "--timesteps", "4"} + more);
        expect_success(result);
        EXPECT_NE(result.out.find(announced), std::string::npos) << result.out << "lacks " << announced;
        expect_success(ito({"sample", out, "--num", "1", "--sampling-steps", "2", "--out", out + ".png"}));
    }

    /// Is refused with one line, and leaves nothing behind.
    void expect_train_refused(const std::string& data, const Arguments& more,
                              std::initializer_list<const char*> parts) {
        expect_refused(ito(train_tiny(data, folder_ / "bad") + Arguments{"--steps", "2"} + more), parts);
        EXPECT_FALSE(fs::exists(folder_ / "bad"));
    }

    TemporaryFolder folder_;
    int runs_ = 0;
};

TEST_F(Data, Mnist) {
    const std::string images = idx({0x803, 6, 28, 28}, pixels(6 * 784)),
                      labels = idx({0x801, 6}, std::string(6, '\1'));
    folder_.write("plain/train-images-idx3-ubyte", images);
    folder_.write("plain/train-labels-idx1-ubyte", labels);
    fs::create_directory(folder_ / "gz");
    for (const auto& [name, content] :
         {std::pair{"gz/train-images-idx3-ubyte.gz", images}, {"gz/train-labels-idx1-ubyte.gz", labels}}) {
        gzFile file = gzopen(at(name).c_str(), "wb");
        gzwrite(file, content.data(), static_cast<unsigned>(content.size()));
        gzclose(file);
    }
    for (const char* name : {"plain", "gz"})
        for (const char* data : {"mnist", "fashion-mnist"})
            expect_trains(data, {"--data-dir", at(name)}, std::string(data) + ": 6 images of 28x28x1");
    expect_trains("mnist", {"--data-dir", at("gz"), "--image-size", "16"}, "mnist: 6 images of 16x16x1");

    expect_train_refused("mnist", {},
                         {"--data mnist", "--data-dir", "train-images-idx3-ubyte.gz", "https://"});
    expect_train_refused("mnist", {"--data-dir", at("none")}, {"none: is not a folder"});
    fs::create_directory(folder_ / "empty");
    expect_train_refused("mnist", {"--data-dir", at("empty")}, {"empty: has no train-images-idx3-ubyte"});
    folder_.write("plain/train-images-idx3-ubyte", images.substr(0, 1000));
    expect_train_refused("mnist", {"--data-dir", at("plain")},
                         {"train-images-idx3-ubyte: ends after 984", "cut short"});
    folder_.write("plain/train-images-idx3-ubyte", labels);
    expect_train_refused("mnist", {"--data-dir", at("plain")}, {"train-images-idx3-ubyte: begins with"});
}

TEST_F(Data, Cifar10) {
    std::string batch;
    for (int i = 0; i < 3; ++i) batch += static_cast<char>(i) + pixels(3072);
    for (int i = 1; i <= 5; ++i) folder_.write("cifar/data_batch_" + std::to_string(i) + ".bin", batch);
    expect_trains("cifar10", {"--data-dir", at("cifar")}, "cifar10: 15 images of 32x32x3");
    expect_train_refused("cifar10", {},
                         {"--data cifar10", "--data-dir", "data_batch_1.bin", "cifar-10-binary.tar.gz"});
    folder_.write("cifar/data_batch_3.bin", batch.substr(1));
    expect_train_refused("cifar10", {"--data-dir", at("cifar")}, {"data_batch_3.bin", "cut short"});
}

TEST_F(Data, Folder) {
    write_pngs(folder_, "images", 3, 20, 30, 3);
    folder_.write("images/j.jpg", testing::make_jpeg(blob(4, 17, 40)));
    expect_trains(at("images"), {"--image-size", "8", "--flip"}, "4 images of 8x8x3");
    expect_train_refused(at("images"), {}, {"j.jpg has 40 x 17", "--image-size"});
    write_pngs(folder_, "wide", 5, 8, 12);
    expect_trains(at("wide"), {}, "5 images of 8x12x1");
    write_pngs(folder_, "odd", 2, 9, 12);
    expect_train_refused(at("odd"), {}, {"--channel-mults 1,2", "multiples of 2", "9x12", "--image-size"});
    expect_train_refused(at("wide"), {"--data-dir", at("odd")}, {"--data", "--data-dir", "no meaning"});
    expect_train_refused(at("nowhere"), {}, {"--data", "nowhere: is neither", "folder of images"});
    fs::create_directory(folder_ / "empty");
    expect_train_refused(at("empty"), {}, {"empty: holds no .png"});
    folder_.write("broken/1.png", "not a png");
    expect_train_refused(at("broken"), {}, {"1.png: is a text file, expected PNG, JPEG or WebP"});
    expect_train_refused(at("broken/1.png"), {}, {"1.png: is neither", "folder of images"});
}

TEST_F(Data, RefusesBadOptions) {
    write_pngs(folder_, "data", 4, 8, 8);
    const auto refused = [&](const Arguments& more, std::initializer_list<const char*> parts) {
        expect_train_refused(at("data"), more, parts);
    };
    refused({"--steps", "0"}, {"--steps 0"});
    refused({"--steps", "-5"}, {"--steps -5"});
    refused({"--steps", "ten"}, {"--steps", "ten"});
    refused({"--steps", "1.5"}, {"--steps", "1.5"});
    refused({"--steps", "99999999999999999999"}, {"--steps"});
    refused({"--minutes", "-1"}, {"--minutes -1"});
    refused({"--minutes", "inf"}, {"--minutes inf"});
    refused({"--batch", "0"}, {"--batch 0", "1 to"});
    refused({"--grad-accum", "0"}, {"--grad-accum 0"});
    refused({"--image-size", "-8"}, {"--image-size -8"});
    refused({"--image-size", "9"}, {"--channel-mults", "--image-size 10"});
    refused({"--base-channels", "3"}, {"--base-channels 3"});
    refused({"--channel-mults", "1,0"}, {"--channel-mults 0"});
    refused({"--channel-mults", "1,x"}, {"--channel-mults", "x"});
    refused({"--channel-mults", "1,1,1,1,1,1,1,1,1"}, {"--channel-mults", "9 levels"});
    refused({"--layers-per-block", "0"}, {"--layers-per-block 0"});
    refused({"--attention-resolutions", "5"}, {"--attention-resolutions 5", "levels have 8, 4"});
    refused({"--attention-resolutions", "-4"}, {"--attention-resolutions -4"});
    refused({"--heads", "0"}, {"--heads 0"});
    refused({"--heads", "3"}, {"--heads 3"});
    refused({"--norm-groups", "3"}, {"--norm-groups 3", "--base-channels 8"});
    refused({"--dropout", "1"}, {"--dropout 1"});
    refused({"--dropout", "nan"}, {"--dropout nan"});
    refused({"--timesteps", "1"}, {"--timesteps 1"});
    refused({"--beta-start", "0"}, {"--beta-start 0"});
    refused({"--beta-schedule", "sigmoid"}, {"--beta-schedule sigmoid", "linear or cosine"});
    refused({"--beta-schedule", "cosine", "--beta-end", "0.03"}, {"--beta-schedule cosine", "--beta-end"});
    refused({"--beta-schedule", "cosine", "--rescale-betas"}, {"--beta-schedule cosine", "--rescale-betas"});
    refused({"--rescale-betas"},
            {"--rescale-betas", "--timesteps 20", "last beta would be 1,", "at least 21"});
    refused({"--lr", "0"}, {"--lr 0"});
    refused({"--lr", "nan"}, {"--lr nan"});
    refused({"--lr-schedule", "step"}, {"--lr-schedule step", "cosine"});
    refused({"--warmup", "-1"}, {"--warmup -1"});
    refused({"--clip", "-1"}, {"--clip -1"});
    refused({"--clip", "inf"}, {"--clip inf"});
    refused({"--weight-decay", "inf"}, {"--weight-decay inf"});
    refused({"--ema", "1"}, {"--ema 1"});
    refused({"--seed", "-1"}, {"--seed"});
    refused({"--seed", "18446744073709551616"}, {"--seed", "expected 0 to"});
    refused({"--threads", "-2"}, {"--threads -2"});
    refused({"--precision", "bfloat16"}, {"--precision bfloat16", "float32"});
    refused({"--sample-every", "-1"}, {"--sample-every -1"});
    refused({"--save-every", "0"}, {"--save-every 0"});
    refused({"--keep", "0"}, {"--keep 0", "1 to 1000"});
    refused({"--device", "gpu"}, {"device 'gpu'", "auto, cpu, cuda"});
    refused({"--device", "cuda:x"}, {"device 'cuda:x'"});
    refused({"--data", "\xff"}, {"--data", "UTF-8"});
    // Refused on every machine: because of the build, or because there are not so many.
    refused({"--device", "cuda:999"}, {"device 'cuda:999'", "--device cpu"});
}

TEST_F(Data, RefusesBadPlacesForTheRun) {
    write_pngs(folder_, "data", 4, 8, 8);
    const auto train = [&](const std::string& out) {
        return ito(train_tiny(at("data"), out) + Arguments{"--steps", "2"});
    };
    expect_refused(ito({"train", "--data", at("data")}), {"--out is missing"});
    expect_success(train(at("run")));
    const auto before = files_below(folder_ / "run");
    expect_refused(train(at("run")), {"--out", "holds a run already", "--resume"});
    expect_refused(train(at("data")), {"--out", "not an empty folder"});
    folder_.write("file", "mine");
    expect_refused(train(at("file")), {"--out", "file: exists and is not an empty folder"});
    expect_refused(train(at("file/run")), {"file/run", "cannot be created", "Not a directory"});
    EXPECT_EQ(TemporaryFolder::read(at("file")), "mine");
    EXPECT_TRUE(files_below(folder_ / "run") == before);
    EXPECT_EQ(folder_.entries(), 3);
}

TEST_F(Data, RefusesBadResumes) {
    write_pngs(folder_, "data", 4, 8, 8);
    expect_success(ito(train_tiny(at("data"), at("run")) + Arguments{"--steps", "3"}));
    const auto before = files_below(folder_ / "run");
    const auto refused = [&](const Arguments& more, std::initializer_list<const char*> parts) {
        expect_refused(ito(Arguments{"train", "--resume", at("run")} + more), parts);
        EXPECT_TRUE(files_below(folder_ / "run") == before);
    };
    refused({}, {"--resume", "3 steps already", "--steps"});
    refused({"--steps", "2"}, {"3 steps already"});
    refused({"--steps", "0"}, {"--steps 0"});
    refused({"--steps", "5", "--lr", "0.1"}, {"--lr 0.1", "trained with 0.001"});
    refused({"--steps", "5", "--batch", "8"}, {"--batch 8", "trained with 4"});
    refused({"--steps", "5", "--flip"}, {"--flip true", "trained with false"});
    refused({"--steps", "5", "--channel-mults", "1,2,2"}, {"--channel-mults [1,2,2]", "trained with [1,2]"});
    refused({"--steps", "5", "--data", "mnist"}, {"--data \"mnist\"", "trained with"});
    refused({"--steps", "5", "--out", at("other")}, {"--out", "other"});
    expect_refused(ito({"train", "--resume", at("data")}), {"--resume", "not a run"});
    expect_refused(ito({"train", "--resume", at("none")}), {"--resume", "not a run"});
    expect_refused(ito({"train", "--resume", ""}), {"--resume"});
    EXPECT_FALSE(fs::exists(at("other")));

    // The data set is another one now.
    write_pngs(folder_, "data", 5, 8, 8);
    refused({"--steps", "5"}, {"state.json", "[4,8,8,1]", "[5,8,8,1]"});
    fs::remove(folder_ / "data/104.png");

    const std::string config = before.at("config.json"),
                      state = before.at("trainer/step-00000003/state.json");
    const auto with = [&](const std::string& name, std::string text, const std::string& from,
                          const std::string& to) {
        const auto where = text.find(from);
        ASSERT_NE(where, std::string::npos) << from;
        folder_.write("run/" + name, text.replace(where, from.size(), to));
    };
    const auto damaged = [&](std::initializer_list<const char*> parts) {
        expect_refused(ito({"train", "--resume", at("run"), "--steps", "5"}), parts);
    };
    for (const char* value : {"1e30", "4.5", "true", "\"4\"", "null", "99999999999999999999", "[4]"}) {
        with("config.json", config, "\"batch\": 4", std::string("\"batch\": ") + value);
        damaged({"config.json", "\"batch\"", "not of the expected kind"});
    }
    with("config.json", config, "\"batch\": 4", "\"batch\": 0");
    damaged({"config.json", "--batch 0"});
    with("config.json", config, "\"seed\": 0", "\"seed\": -1");
    damaged({"config.json", "\"seed\""});
    with("config.json", config, "\"threads\": 1", "\"threads\": 4294967297");
    damaged({"config.json", "\"threads\""});
    with("config.json", config, "\"lr\": 0.001", "\"lr\": 1e999");
    damaged({"config.json"});
    with("config.json", config, "\"batch\"", "\"bach\"");
    damaged({"config.json", "unknown field \"bach\""});
    folder_.write("run/config.json", "");
    damaged({"config.json", "not a JSON object"});
    folder_.write("run/config.json", config);

    with("trainer/step-00000003/state.json", state, "\"step\": 3", "\"step\": 1e30");
    damaged({"state.json", "\"step\""});
    with("trainer/step-00000003/state.json", state, "\"loss\":", "\"lost\":");
    damaged({"state.json", "\"window\""});
    folder_.write("run/trainer/step-00000003/state.json", state);
    folder_.write("run/trainer/step-00000003/adam_v.safetensors", "short");
    damaged({"adam_v.safetensors"});
    folder_.write("run/trainer/step-00000003/adam_v.safetensors",
                  before.at("trainer/step-00000003/adam_v.safetensors"));
    expect_success(ito({"train", "--resume", at("run"), "--steps", "5"}));
}

}  // namespace
}  // namespace ito::apps
