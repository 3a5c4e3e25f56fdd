// ito sample from the outside.

#include <fmt/format.h>

#include "tests/apps/shared_run.h"

namespace ito::apps {
namespace {

using diffusion::Image;
using diffusion::read_image;

/// Image `n` of a grid made with --upscale 1 and `columns` columns.
std::vector<std::uint8_t> cell(const Image& grid, std::int64_t n, std::int64_t columns, std::int64_t height,
                               std::int64_t width) {
    std::vector<std::uint8_t> pixels;
    const std::int64_t top = n / columns * (height + 2) + 2, left = n % columns * (width + 2) + 2;
    for (std::int64_t y = 0; y < height; ++y) {
        const auto row = grid.pixels.begin() + ((top + y) * grid.width + left) * grid.channels;
        pixels.insert(pixels.end(), row, row + width * grid.channels);
    }
    return pixels;
}

/// One trained run for all tests. 8 x 12 pixels in colour, so that no axis can be mistaken for another.
class Sample : public SharedRun<Sample, 8, 12, 3> {
  public:
    static Arguments training() { return {"--steps", "30", "--ema", "0.9"}; }

  protected:
    static std::string run() { return (*shared_ / "run").string(); }

    /// Samples into a picture of that name with the plainest layout and decodes it.
    Image sample(const std::string& name, const Arguments& more = {}) const {
        expect_success(
            ito(Arguments{"sample", run(), "--upscale", "1", "--threads", "1", "--out", at(name)} + more));
        return read_image(at(name));
    }
};

TEST_F(Sample, AnImageDependsOnItsSeedAndIndexAlone) {
    const Image all = sample("all.png", {"--num", "7"});
    EXPECT_EQ(all.width, 3 * 14 + 2);
    EXPECT_EQ(all.height, 3 * 10 + 2);
    EXPECT_EQ(all.channels, 3);
    for (const char* batch : {"1", "3", "7", "100"})
        EXPECT_TRUE(sample(std::string("batch-") + batch + ".png", {"--num", "7", "--batch", batch}) == all)
            << batch;
    EXPECT_TRUE(sample("threads.png", {"--num", "7", "--threads", "2"}) == all);
    const Image more = sample("more.png", {"--num", "12", "--columns", "4"});
    for (std::int64_t n = 0; n < 7; ++n) EXPECT_EQ(cell(more, n, 4, 8, 12), cell(all, n, 3, 8, 12)) << n;
    EXPECT_NE(cell(all, 0, 3, 8, 12), cell(all, 1, 3, 8, 12));
    EXPECT_FALSE(sample("seed.png", {"--num", "7", "--seed", "1"}) == all);
}

TEST_F(Sample, WeightsAndVariance) {
    const Image ema = sample("ema.png", {"--num", "2"});
    EXPECT_FALSE(sample("raw.png", {"--num", "2", "--weights", "raw"}) == ema);
    EXPECT_FALSE(sample("beta.png", {"--num", "2", "--variance", "beta"}) == ema);
    EXPECT_TRUE(sample("all.png", {"--num", "2", "--sampling-steps", "20"}) == ema);
    EXPECT_FALSE(sample("five.png", {"--num", "2", "--sampling-steps", "5"}) == ema);
    sample("one.png", {"--num", "1", "--sampling-steps", "1"});
    EXPECT_FALSE(sample("noisy.png", {"--num", "2", "--sampling-steps", "5", "--variance", "beta"}) ==
                 read_image(at("five.png")));
}

TEST_F(Sample, OfAnEarlierCheckpoint) {
    const Arguments tiny = train_tiny((*shared_ / "data").string(), at("kept")) + Arguments{"--ema", "0.9"};
    expect_success(ito(tiny + Arguments{"--steps", "15", "--save-every", "5", "--keep", "2"}));
    expect_success(ito(tiny + Arguments{"--steps", "10", "--out", at("ten")}));
    const auto draw = [&](const std::string& run, const Arguments& more) {
        expect_success(
            ito(Arguments{"sample", at(run), "--num", "2", "--out", at("x.png"), "--force"} + more));
        return read_image(at("x.png"));
    };
    for (const char* weights : {"ema", "raw"}) {
        const Arguments set{"--weights", weights};
        const Image tenth = draw("ten", set);
        EXPECT_TRUE(draw("kept", set + Arguments{"--step", "10"}) == tenth) << weights;
        EXPECT_FALSE(draw("kept", set) == tenth) << weights;
        EXPECT_TRUE(draw("kept", set + Arguments{"--step", "15"}) == draw("kept", set)) << weights;
    }
    expect_refused(ito({"sample", at("kept"), "--step", "5", "--out", at("y.png")}),
                   {"--step 5", "no such checkpoint", "[10, 15]"});
    expect_refused(ito({"sample", at("kept"), "--step", "-1", "--out", at("y.png")}), {"--step -1"});
}

TEST_F(Sample, ProgressiveStrip) {
    const Image grid = sample("grid.png", {"--num", "10", "--progressive", at("strip.png"), "--batch", "3"});
    const Image strip = read_image(at("strip.png"));
    EXPECT_EQ(strip.height, 8 * 10 + 2);  // the first 8 images
    EXPECT_EQ(strip.width, 12 * 14 + 2);  // at 12 of the 20 steps
    // The way ends at the image, and begins at something else.
    for (std::int64_t n = 0; n < 8; ++n) {
        EXPECT_EQ(cell(strip, n * 12 + 11, 12, 8, 12), cell(grid, n, 4, 8, 12)) << n;
        EXPECT_NE(cell(strip, n * 12, 12, 8, 12), cell(grid, n, 4, 8, 12)) << n;
    }
    // Fewer of both.
    sample("few.png", {"--num", "2", "--progressive", at("short.png"), "--sampling-steps", "3"});
    EXPECT_EQ(read_image(at("short.png")).height, 2 * 10 + 2);
    EXPECT_EQ(read_image(at("short.png")).width, 3 * 14 + 2);
}

TEST_F(Sample, LayoutAndProgress) {
    const auto result = ito({"sample", run(), "--num", "4", "--out", at("grid.png")});
    expect_success(result);
    const Image grid = read_image(at("grid.png"));
    EXPECT_EQ(grid.width, 2 * (12 * 7 + 2) + 2);  // about 84 pixels an image
    EXPECT_EQ(grid.height, 2 * (8 * 7 + 2) + 2);
    EXPECT_EQ(result.out.find('\r'), std::string::npos);
    EXPECT_NE(result.out.find("4 images in 20 steps"), std::string::npos) << result.out;
    const auto live =
        ito({"sample", run(), "--num", "2", "--batch", "1", "--out", at("live.png")}, {.terminal = true});
    EXPECT_EQ(live.status, 0);
    EXPECT_NE(live.out.find("2 images in 20 steps"), std::string::npos) << live.out;
    EXPECT_NE(live.out.find("\r\033[K"), std::string::npos) << live.out;
}

TEST_F(Sample, InterruptedWritesNothing) {
    const auto result = ito({"sample", run(), "--num", "30000", "--batch", "10", "--out", at("grid.png")},
                            {.signal = SIGINT, .signal_at = "step 1/20"});
    EXPECT_EQ(result.status, 130) << result.out << result.err;
    EXPECT_NE(result.out.find("interrupted; nothing was written"), std::string::npos) << result.out;
    EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(Sample, SingleImages) {
    const Image grid = sample("grid.png", {"--num", "7", "--columns", "7"});
    const Arguments command{"sample",     run(),   "--threads", "1",       "--folder",
                            at("images"), "--num", "5",         "--batch", "2"};
    const auto result = ito(command);
    expect_success(result);
    EXPECT_NE(result.out.find("5 images in 20 steps"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("sampling  images 1-2 of 5  step 1/20"), std::string::npos) << result.out;
    const auto first = files_below(folder_ / "images");
    EXPECT_EQ(first.size(), 6u);  // and sampling.json
    for (std::int64_t n = 0; n < 5; ++n) {
        const Image image = read_image(folder_ / fmt::format("images/{:06}.png", n));
        EXPECT_EQ(image.height, 8);
        EXPECT_EQ(image.width, 12);
        EXPECT_EQ(image.pixels, cell(grid, n, 7, 8, 12)) << n;
    }
    // What is there stays, gaps are filled, and the number may grow.
    const std::string other = testing::make_png(blob(1, 8, 12, 3));
    folder_.write("images/000002.png", other);
    fs::remove(folder_ / "images/000001.png");
    fs::remove(folder_ / "images/000004.png");
    const auto again = ito(command + Arguments{"--num", "7", "--batch", "64"});
    expect_success(again);
    EXPECT_NE(again.out.find("4 images in 20 steps"), std::string::npos) << again.out;
    EXPECT_NE(again.out.find("(3 there already)"), std::string::npos) << again.out;
    EXPECT_EQ(TemporaryFolder::read(folder_ / "images/000002.png"), other);
    folder_.write("images/000002.png", first.at("000002.png"));
    auto all = files_below(folder_ / "images");
    EXPECT_EQ(all.size(), 8u);
    for (const auto& [name, content] : first) EXPECT_TRUE(all.at(name) == content) << name;
    EXPECT_EQ(read_image(folder_ / "images/000006.png").pixels, cell(grid, 6, 7, 8, 12));
    expect_success(ito(command + Arguments{"--num", "7"}));  // there is nothing left to do
    // The work can be shared out.
    expect_success(ito(command + Arguments{"--folder", at("part"), "--first", "5", "--num", "2"}));
    auto part = files_below(folder_ / "part");
    EXPECT_EQ(part.size(), 3u);
    for (const auto& [name, content] : part) EXPECT_TRUE(all.at(name) == content) << name;
    EXPECT_EQ(cell(sample("part.png", {"--first", "5", "--num", "2"}), 1, 2, 8, 12), cell(grid, 6, 7, 8, 12));
}

TEST_F(Sample, SingleImagesGoOnAfterAnInterrupt) {
    const Arguments command{"sample", run(), "--threads", "1", "--batch", "10", "--folder", at("images")};
    const auto stopped =
        ito(command + Arguments{"--num", "100000"},
            {.signals = [&, sent = false](const auto&, const auto&, double) mutable {
                return fs::exists(folder_ / "images/000014.png") && !std::exchange(sent, true) ? SIGINT : 0;
            }});
    EXPECT_EQ(stopped.status, 130) << stopped.out << stopped.err;
    const auto made = files_below(folder_ / "images").size() - 1;
    EXPECT_NE(stopped.out.find(fmt::format("interrupted; {} of 100000 images -> ", made)), std::string::npos)
        << stopped.out;
    EXPECT_GE(made, 20u);
    EXPECT_EQ(made % 10, 0u);
    const auto rest = ito(command + Arguments{"--num", std::to_string(made + 3)});
    expect_success(rest);
    EXPECT_NE(rest.out.find("3 images in 20 steps"), std::string::npos) << rest.out;
    EXPECT_EQ(files_below(folder_ / "images").size(), made + 4);
}

TEST_F(Sample, SingleImagesOfTwoSamplingsDoNotMix) {
    const Arguments command{"sample", run(), "--num", "1", "--sampling-steps", "2", "--folder", at("images")};
    expect_success(ito(command));
    const auto before = files_below(folder_ / "images");
    const auto refused = [&](const Arguments& more, std::initializer_list<const char*> parts) {
        expect_refused(ito(command + more), parts);
        EXPECT_TRUE(files_below(folder_ / "images") == before);
    };
    refused({"--seed", "1"}, {"--folder", "images of another sampling", "seed is 0, this one's 1"});
    refused({"--sampling-steps", "3"}, {"another sampling", "sampling_steps is 2"});
    refused({"--weights", "raw"}, {"another sampling", "model is"});
    const auto full = ito(command + Arguments{"--sampling-steps", "20", "--variance", "beta"});
    EXPECT_EQ(full.status, 1);
    refused({"--out", at("x.png")}, {"--out", "--folder"});
    refused({"--columns", "1"}, {"--columns", "--folder"});
    refused({"--force"}, {"--force", "--folder"});
    refused({"--num", "1000001"}, {"--num 1000001", "1000000"});
    refused({"--first", "1000000"}, {"--first 1000000"});
    refused({"--first", "-1"}, {"--first -1"});
    refused({"--folder", ""}, {"--folder", "empty"});
    folder_.write("file", "mine");
    refused({"--folder", at("file")}, {"file", "cannot be created"});
    folder_.write("pictures/holiday.png", "mine");
    refused({"--folder", at("pictures")}, {"--folder", "holds pictures", "sampling.json"});
    folder_.write("images/sampling.json", "[]");
    expect_refused(ito(command), {"sampling.json: not a JSON object"});
}

TEST_F(Sample, KeepsExistingPictures) {
    folder_.write("grid.png", "mine");
    const Arguments command{"sample", run(), "--num", "1", "--out", at("grid.png")};
    expect_refused(ito(command), {"--out", "grid.png: exists already", "--force"});
    EXPECT_EQ(TemporaryFolder::read(at("grid.png")), "mine");
    expect_success(ito(command + Arguments{"--force"}));
    EXPECT_NE(TemporaryFolder::read(at("grid.png")), "mine");
    expect_refused(ito({"sample", run(), "--out", at("new.png"), "--progressive", at("grid.png")}),
                   {"--progressive", "grid.png: exists already"});
    EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(Sample, RefusesBadOptions) {
    const auto refused = [&](const Arguments& more, std::initializer_list<const char*> parts) {
        expect_refused(ito(Arguments{"sample", run(), "--out", at("x.png")} + more), parts);
    };
    refused({"--num", "0"}, {"--num 0", "1 to"});
    refused({"--num", "100000"}, {"--num 100000"});
    refused({"--num", "many"}, {"--num", "many"});
    refused({"--batch", "0"}, {"--batch 0"});
    refused({"--sampling-steps", "21"}, {"--sampling-steps 21", "1 to 20"});
    refused({"--sampling-steps", "-1"}, {"--sampling-steps -1"});
    refused({"--timestep-spacing", "karras"}, {"--timestep-spacing karras", "leading, linspace or trailing"});
    refused({"--variance", "learned"}, {"--variance learned", "posterior or beta"});
    refused({"--weights", "best"}, {"--weights best", "ema or raw"});
    refused({"--seed", "-1"}, {"--seed"});
    refused({"--columns", "65"}, {"--columns 65"});
    refused({"--upscale", "65"}, {"--upscale 65"});
    refused({"--num", "20000", "--upscale", "64"}, {"grid"});
    refused({"--threads", "-1"}, {"--threads -1"});
    refused({"--device", "tpu"}, {"device", "tpu", "expected auto, cpu, cuda"});
    refused({"--out", at("x.jpg")}, {"--out", "x.jpg", ".png"});
    refused({"--out", at("no/x.png")}, {"--out", "the folder", "does not exist"});
    refused({"--progressive", at("strip")}, {"--progressive", "strip", ".png"});
    refused({"--progressive", at("x.png")}, {"--progressive", "--out too"});
    EXPECT_EQ(folder_.entries(), 0);
    fs::create_directory(at("dir.png"));
    refused({"--out", at("dir.png"), "--force"}, {"--out", "dir.png: is a folder"});
    expect_refused(ito({"sample"}), {"RUN is required"});
}

TEST_F(Sample, RefusesBadRuns) {
    const auto refused = [&](std::initializer_list<const char*> parts, const Arguments& more = {}) {
        expect_refused(ito(Arguments{"sample", at("copy"), "--out", at("x.png")} + more), parts);
        EXPECT_FALSE(fs::exists(at("x.png")));
    };
    const auto fresh = [&] {
        fs::remove_all(at("copy"));
        fs::copy(run(), at("copy"), fs::copy_options::recursive);
    };
    const auto replace = [&](const std::string& name, const std::string& from, const std::string& to) {
        fresh();
        std::string text = TemporaryFolder::read(folder_ / ("copy/" + name));
        const auto where = text.find(from);
        ASSERT_NE(where, std::string::npos) << from;
        folder_.write("copy/" + name, text.replace(where, from.size(), to));
    };
    const std::string weights = "copy/unet/diffusion_pytorch_model.safetensors";
    refused({"copy: no such folder"});
    fs::create_directory(at("copy"));
    refused({"neither a run nor a diffusers pipeline"});
    fresh();
    fs::remove(folder_ / weights);
    refused({"diffusion_pytorch_model.safetensors: the weights are missing"});
    fs::remove_all(folder_ / "copy/trainer");
    refused({"no trainer/step-* checkpoint yet", "ito train --resume"}, {"--weights", "raw"});
    const std::string good = TemporaryFolder::read(run() + "/unet/diffusion_pytorch_model.safetensors");
    for (const std::string& bad : {std::string(), std::string("x"), good.substr(0, 100),
                                   good.substr(0, good.size() - 1), good + "x", std::string(64, '\xff')}) {
        folder_.write(weights, bad);
        refused({"diffusion_pytorch_model.safetensors"});
    }
    replace("unet/config.json", "\"silu\"", "\"gelu\"");
    refused({"unet/config.json", "act_fn", "gelu"});
    replace("unet/config.json", "\"UNet2DModel\"", "\"UNet2DConditionModel\"");
    refused({"unet/config.json", "UNet2DConditionModel"});
    replace("unet/config.json", "\"out_channels\": 3", "\"out_channels\": 6");
    refused({"unet/config.json", "3 input and 6 output channels"});
    replace("unet/config.json", "\"norm_num_groups\": 2", "\"norm_num_groups\": 3");
    refused({"unet/config.json", "norm groups"});
    replace("unet/config.json", "\"layers_per_block\": 1", "\"layers_per_block\": 2");
    refused({"diffusion_pytorch_model.safetensors", "tensor"});
    replace("unet/config.json", "{", "");
    refused({"unet/config.json"});
    replace("scheduler/scheduler_config.json", "\"epsilon\"", "\"v_prediction\"");
    refused({"scheduler_config.json", "prediction_type", "v_prediction"});
    replace("scheduler/scheduler_config.json", "20", "1e99");
    refused({"scheduler_config.json", "num_train_timesteps"});
}

}  // namespace
}  // namespace ito::apps
