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
    expect_train_refused(at("no/`flip`/here"), {},
                         {"--data", "no/`flip`/here: is neither"});  // a path, no field
    fs::create_directory(folder_ / "empty");
    expect_train_refused(at("empty"), {}, {"empty: holds no PNG, JPEG or WebP file"});
    folder_.write("broken/1.png", "not a png");
    expect_train_refused(at("broken"), {}, {"1.png: is a text file, expected PNG, JPEG or WebP"});
    expect_train_refused(at("broken/1.png"), {}, {"1.png: is neither", "folder of images"});
}

std::string lines_with(const std::string& text, const std::string& word) {
    std::istringstream in(text);
    std::string found;
    for (std::string line; std::getline(in, line);)
        if (line.find(word) != std::string::npos) found += line + "\n";
    return found;
}

TEST_F(Data, SaysWhatOfAFolderIsTaken) {
    write_pngs(folder_, "data/train", 4, 8, 8);
    write_pngs(folder_, "data/validation", 2, 8, 8);
    folder_.write("data/train/a.jfif", testing::make_jpeg(blob(4, 8, 8)));
    for (int i = 0; i < 20; ++i) folder_.write("data/train/" + std::to_string(i) + ".gif", "GIF89a");
    folder_.write("data/train/@eaDir/100.png/thumb.jpg", "small");
    const std::string notes[] = {
        "note      using " + at("data/train") + "; validation is not used\n",
        "note      " + at("data") +
            ": passed over 20 images of formats that are not read (20 gif; convert them to PNG, JPEG or WebP "
            "to "
            "train on them), system folders (@eaDir)\n"};
    const auto trained = ito(train_tiny(at("data"), at("run")) + Arguments{"--steps", "2"});
    expect_success(trained);
    EXPECT_EQ(lines_with(trained.out, "note "), notes[0] + notes[1]);
    EXPECT_NE(trained.out.find("data: 5 images of 8x8x1"), std::string::npos) << trained.out;
    const auto dry = ito(train_tiny(at("data"), at("dry")) + Arguments{"--dry-run"});
    expect_success(dry);
    EXPECT_EQ(lines_with(dry.out, "note "), "# " + notes[0] + "# " + notes[1]);
    const auto doctor = ito({"doctor", "--data", at("data")});
    for (const std::string& note : notes) {
        const std::string text = note.substr(note.find_first_of("u/"));
        EXPECT_NE(doctor.out.find(text), std::string::npos) << doctor.out << "lacks " << text;
    }

    write_pngs(folder_, "data/cat", 1, 8, 8);
    expect_train_refused(at("data"), {},
                         {"train, validation have a split's name", "(cat)", "--data", "data/train"});
    expect_refused(ito({"train", "--resume", at("run"), "--steps", "3"}), {"--data", "data/train"});
    expect_success(ito({"train", "--resume", at("run"), "--steps", "3", "--data", at("data/train")}));
    // Among the images its samples would be images too.
    expect_train_refused(at("data/train"), {"--out", at("data/train/run")}, {"lies in the folder of --data"});
}

TEST_F(Data, BrokenImages) {
    write_pngs(folder_, "data", 6, 8, 8);
    const std::string whole = TemporaryFolder::read(folder_ / "data/101.png");
    const auto damage = [&](const std::string& name) { folder_.write("data/" + name, whole.substr(0, 40)); };
    damage("101.png");
    damage("104.png");
    expect_train_refused(at("data"), {},
                         {"data: 2 of 6 images cannot be read: 101.png, 104.png;", "--skip-broken"});
    expect_refused(ito(train_tiny(at("data"), at("run")) + Arguments{"--dry-run"}), {"101.png, 104.png"});
    const auto doctor = ito({"doctor", "--data", at("data")});
    EXPECT_EQ(doctor.status, 1);
    EXPECT_NE(doctor.out.find("2 of 6 images cannot be read: 101.png, 104.png;"), std::string::npos)
        << doctor.out;
    const auto skipping = ito({"doctor", "--data", at("data"), "--skip-broken"});
    EXPECT_EQ(skipping.status, 0);
    EXPECT_NE(skipping.out.find("4 images of 8x8x1"), std::string::npos) << skipping.out;
    EXPECT_NE(skipping.out.find("--skip-broken --out runs/data"), std::string::npos) << skipping.out;

    const auto trained = ito(train_tiny(at("data"), at("run")) + Arguments{"--steps", "2", "--skip-broken"});
    expect_success(trained);
    EXPECT_NE(trained.out.find("left out 2 of 6 images that cannot be read: 101.png, 104.png\n"),
              std::string::npos)
        << trained.out;
    expect_success(ito({"figures", at("run"), "--images", "2", "--steps", "2"}));

    // The option stays with the run, and holds for what was broken when it began.
    const Arguments resume{"train", "--resume", at("run"), "--steps", "4"};
    damage("102.png");
    expect_refused(ito(resume), {"data/102.png: cannot be read, and is not among the files", "left_out.json",
                                 "--data-changed"});
    folder_.write("data/101.png", whole);  // as many again, but others
    expect_refused(ito(resume), {"data/102.png: cannot be read, and is not among the files"});
    folder_.write("data/102.png", whole);
    expect_refused(ito(resume),
                   {"data/101.png: is among the files", "left_out.json", "now is not broken", "remove it"});
    damage("101.png");
    for (const char* text : {"{}", "[1]", "no JSON"}) {
        const std::string before = TemporaryFolder::read(at("run/left_out.json"));
        folder_.write("run/left_out.json", text);
        expect_refused(ito(resume), {"left_out.json: not a list of file names"});
        folder_.write("run/left_out.json", before);
    }
    expect_refused(ito(resume + Arguments{"--skip-broken=false"}),
                   {"--skip-broken false", "trained with true"});
    fs::remove(folder_ / "data/101.png");  // the images are the same without it
    expect_success(ito(resume));

    // The same where a split of the folder is taken.
    write_pngs(folder_, "split/train", 4, 8, 8);
    write_pngs(folder_, "split/val", 2, 8, 8);
    folder_.write("split/train/broken.png", "");
    expect_success(ito(train_tiny(at("split"), at("of-split")) + Arguments{"--steps", "2", "--skip-broken"}));
    folder_.write("split/train/broken.png", whole);
    fs::remove(folder_ / "split/train/100.png");  // as many as before, but others
    expect_refused(ito({"train", "--resume", at("of-split"), "--steps", "4"}),
                   {"split/train/broken.png: is among the files", "now is not broken"});

    // Without the option a run names what to restore: changing its set of images is no way out.
    folder_.write("data/101.png", whole);
    folder_.write("data/104.png", whole);
    expect_success(ito(train_tiny(at("data"), at("all")) + Arguments{"--steps", "2"}));
    EXPECT_FALSE(fs::exists(folder_ / "all/left_out.json"));
    damage("103.png");
    const auto broken = ito({"train", "--resume", at("all"), "--steps", "3"});
    expect_refused(broken, {"103.png: ", "restore what was there"});
    EXPECT_EQ(broken.err.find("--skip-broken"), std::string::npos) << broken.err;
}

#if !defined(__SANITIZE_ADDRESS__)  // which needs all of the address space, so that ulimit -v ends it
TEST_F(Data, LargeImagesOutOfMemoryAreToBeScaled) {
    write_pngs(folder_, "data", 2, 640, 640);
    const auto limited = [&](const Arguments& arguments, const CommandOptions& options) {
        Arguments all{"-c", "ulimit -v 800000 && exec \"$@\"", "bash", ITO_BINARY};
        all.insert(all.end(), arguments.begin(), arguments.end());
        return testing::run_command("/bin/bash", all, options);
    };
    const Arguments train =
        train_tiny(at("data"), at("run")) +
        Arguments{"--steps", "9", "--base-channels", "16", "--attention-resolutions", "0"};
    const auto large = limited(train, {});
    EXPECT_EQ(large.status, 1);
    EXPECT_NE(large.err.find("out of memory"), std::string::npos) << large.err;
    EXPECT_NE(large.err.find("--image-size 128 fits with this batch"), std::string::npos) << large.err;
    EXPECT_FALSE(fs::exists(folder_ / "run/config.json"));
    const auto scaled =
        limited(train + Arguments{"--image-size", "128"}, {.signal = SIGINT, .signal_at = "step 1/9"});
    EXPECT_EQ(scaled.status, 130) << scaled.err;
}
#endif

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
    refused({"--image-size", "4095"}, {"--channel-mults", "--image-size 128"});
    refused({"--base-channels", "3"}, {"--base-channels 3"});
    refused({"--channel-mults", "1,0"}, {"--channel-mults 0"});
    refused({"--channel-mults", "1,x"}, {"--channel-mults", "x"});
    refused({"--channel-mults", "1,1,1,1,1,1,1,1,1"}, {"--channel-mults", "9 of them"});
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
    refused({"--adam-beta1", "-0.1"}, {"--adam-beta1 -0.1", "at least 0"});
    refused({"--adam-beta2", "1"}, {"--adam-beta2 1", "less than 1"});
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
    expect_refused(train(at("file/run")), {"file/run", "cannot be created", "file is a file"});
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
    refused({"--steps", "5"}, {"was trained on 4 images, and there are 5 now", "--data-changed"});
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
    damaged({"config.json", "an empty file, not JSON"});
    folder_.write("run/config.json", "[]");
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
