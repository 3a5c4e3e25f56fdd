#include "diffusion/data/dataset.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "diffusion/data/cifar10.h"
#include "diffusion/data/folder.h"
#include "diffusion/data/idx.h"
#include "tests/support/expect_error.h"
#include "tests/support/image_files.h"
#include "tests/support/made_files.h"
#include "tests/support/temporary_folder.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;
using testing::big_endian;
using testing::expect_error;
using testing::flat;
using testing::gzip;
using testing::make_jpeg;
using testing::make_png;
using testing::TemporaryFolder;
using Bytes = std::vector<std::uint8_t>;
using Labels = std::vector<std::int64_t>;

/// Byte i of the data is i mod 251.
std::string counted(std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i % 251);
    return bytes;
}

std::string idx_images(std::uint32_t count, std::uint32_t height, std::uint32_t width) {
    return big_endian({0x803, count, height, width}) + counted(std::size_t{count} * height * width);
}

std::string idx_labels(const std::string& labels) {
    return big_endian({0x801, static_cast<std::uint32_t>(labels.size())}) + labels;
}

void write_image(const TemporaryFolder& folder, const std::string& name, const Image& image) {
    folder.write(name, make_png(image));
}

TEST(Idx, ReadsPlainAndGzippedFiles) {
    const TemporaryFolder folder;
    const std::string images = idx_images(3, 4, 5), labels = idx_labels("\x02\x09\xff");
    const auto check = [](const Dataset& dataset) {
        EXPECT_EQ(dataset.count, 3);
        EXPECT_EQ(dataset.height, 4);
        EXPECT_EQ(dataset.width, 5);
        EXPECT_EQ(dataset.channels, 1);
        EXPECT_EQ(dataset.labels, (Labels{2, 9, 255}));
        ASSERT_EQ(dataset.images.size(), 60u);
        EXPECT_EQ(dataset.image(2)[0], 40);
        EXPECT_EQ(dataset.images[59], 59);
    };
    check(load_idx(folder.write("i", images), folder.write("l", labels)));
    // The content decides, not the name.
    check(load_idx(folder.write("i.x", gzip(images)), folder.write("l.gz", labels)));
    EXPECT_TRUE(load_idx(folder / "i").labels.empty());
}

TEST(Idx, RefusesBadFiles) {
    const TemporaryFolder folder;
    const auto images = [&](const std::string& content) { load_idx(folder.write("images", content)); };
    const std::string good = idx_images(3, 4, 5);
    for (const std::size_t length : {0, 3, 4, 15})
        expect_error([&] { images(good.substr(0, length)); }, {"/images: ends inside"});
    expect_error([&] { images(good.substr(0, 50)); }, {"/images: ends after 34 bytes", "announces 60"});
    expect_error([&] { images(good + "x"); }, {"/images: is longer than the 60 bytes"});
    expect_error([&] { images("PNG?not an IDX file at all"); },
                 {"/images: begins with 0x504e473f, expected 0x00000803"});
    expect_error([&] { images(idx_labels("abc")); }, {"begins with 0x00000801"});
    expect_error([&] { images(big_endian({0x803, 0, 4, 4})); }, {"holds no images"});
    expect_error([&] { images(big_endian({0x803, 1, 0, 4})); }, {"4 x 0 pixels"});
    expect_error([&] { images(big_endian({0x803, 1, 5000, 4})); }, {"4 x 5000 pixels"});
    expect_error([&] { images(big_endian({0x803, 0xffffffff, 4096, 4096})); }, {"more than 16 GiB"});
    expect_error(
        [&] {
            images(big_endian({0x803, 0xffffffff, 1, 1}) + "short");
        },
        {"ends after 5 bytes", "4294967295"});

    const std::string zipped = gzip(good);
    for (std::size_t length = 2; length < zipped.size(); ++length)
        expect_error([&] { images(zipped.substr(0, length)); }, {"/images: "});
    std::string damaged = zipped;
    damaged[zipped.size() - 6] ^= 1;  // the checksum
    expect_error([&] { images(damaged); }, {"/images: ", "incorrect data check"});

    const auto labels = [&](const std::string& content) {
        load_idx(folder.write("images", good), folder.write("labels", content));
    };
    expect_error([&] { labels(idx_labels("ab")); }, {"/labels: 2 labels, but", "/images has 3 images"});
    expect_error([&] { labels(idx_labels("abc") + "d"); }, {"/labels: is longer"});
    expect_error([&] { labels(good); }, {"/labels: begins with 0x00000803, expected 0x00000801"});
    expect_error([&] { load_idx(folder / "none"); }, {"/none: does not exist"});
    expect_error([&] { load_idx(folder.path()); }, {"not a regular file"});
}

TEST(Mnist, FindsFilesUnderEveryUsualName) {
    for (const char* separator : {"-", "."})
        for (const bool zipped : {false, true}) {
            const TemporaryFolder folder;
            const auto add = [&](const std::string& part, const std::string& kind,
                                 const std::string& content) {
                folder.write(part + separator + kind + (zipped ? ".gz" : ""),
                             zipped ? gzip(content) : content);
            };
            add("train-images", "idx3-ubyte", idx_images(2, 28, 28));
            add("train-labels", "idx1-ubyte", idx_labels("\x01\x09"));
            add("t10k-images", "idx3-ubyte", idx_images(1, 28, 28));
            add("t10k-labels", "idx1-ubyte", idx_labels("\x05"));
            DatasetOptions options;
            options.data_dir = folder.path();
            const Dataset train = load_dataset("mnist", options);
            EXPECT_EQ(train.count, 2);
            EXPECT_EQ(train.labels, (Labels{1, 9}));
            EXPECT_EQ(train.label_names.size(), 10u);
            options.split = Split::test;
            options.image_size = 32;
            const Dataset test = load_dataset("mnist", options);
            EXPECT_EQ(test.labels, (Labels{5}));
            EXPECT_EQ(test.height, 32);
            EXPECT_EQ(test.images.size(), 1024u);
        }
    const TemporaryFolder folder;
    expect_error([&] { load_mnist(folder.path(), Split::train); }, {"has no train-images-idx3-ubyte"});
    folder.write("train-images-idx3-ubyte", idx_images(1, 2, 2));
    expect_error([&] { load_mnist(folder.path(), Split::train); }, {"has no train-labels-idx1-ubyte"});
    folder.write("train-labels-idx1-ubyte", idx_labels("\x0a"));
    expect_error([&] { load_mnist(folder.path(), Split::train); },
                 {"train-labels", "label 0 is 10, expected from 0 to 9"});
    expect_error([&] { load_mnist(folder / "none", Split::train); }, {"/none: is not a folder"});
    expect_error([] { load_dataset("mnist"); }, {"`data` mnist", "`data_dir`", "https://"});
}

TEST(FashionMnist, ReadsTheDebianPackage) {
    if (!fs::is_directory("/usr/share/datasets/fashion-mnist")) {
        expect_error([] { load_dataset("fashion-mnist"); }, {"apt-get install dataset-fashion-mnist"});
        return;
    }
    const Dataset train = load_dataset("fashion-mnist");
    EXPECT_EQ(train.count, 60000);
    EXPECT_EQ(train.height, 28);
    EXPECT_EQ(train.channels, 1);
    EXPECT_EQ(train.labels.size(), 60000u);
    EXPECT_EQ(train.label_names[9], "Ankle boot");
    EXPECT_EQ(train.labels[0], 9);
    const double mean =
        std::accumulate(train.images.begin(), train.images.end(), 0.0) / (60000 * 784.0 * 255);
    EXPECT_NEAR(mean, 0.2860, 1e-4);  // the normalisation constant that everybody uses
    DatasetOptions options;
    options.split = Split::test;
    EXPECT_EQ(load_dataset("fashion-mnist", options).count, 10000);
}

std::string cifar_record(char label, int shade) {
    std::string record(3073, '\0');
    record[0] = label;
    for (std::size_t c = 0; c < 3; ++c)
        for (std::size_t p = 0; p < 1024; ++p)
            record[1 + c * 1024 + p] =
                static_cast<char>((static_cast<std::size_t>(shade) + 50 * c + p) % 256);
    return record;
}

TEST(Cifar10, TurnsPlanesIntoPixels) {
    const TemporaryFolder folder;
    for (int i = 1; i <= 5; ++i)
        folder.write("cifar-10-batches-bin/data_batch_" + std::to_string(i) + ".bin",
                     cifar_record(static_cast<char>(i), i) + (i == 3 ? cifar_record(9, 77) : ""));
    folder.write("cifar-10-batches-bin/test_batch.bin", cifar_record(0, 5));
    DatasetOptions options;
    options.data_dir = folder.path();
    const Dataset train = load_dataset("cifar10", options);
    EXPECT_EQ(train.count, 6);
    EXPECT_EQ(train.channels, 3);
    EXPECT_EQ(train.labels, (Labels{1, 2, 3, 9, 4, 5}));
    EXPECT_EQ(train.label_names[2], "bird");
    for (std::size_t p : {0, 1, 500, 1023})
        for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(train.image(3)[p * 3 + c], (77 + 50 * c + p) % 256);
    options.split = Split::test;
    options.data_dir = folder / "cifar-10-batches-bin";
    EXPECT_EQ(load_dataset("cifar10", options).labels, (Labels{0}));
    folder.write("cifar-10-batches-bin/batches.meta.txt", "a\nb\r\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
    EXPECT_EQ(load_dataset("cifar10", options).label_names[9], "j");
    folder.write("cifar-10-batches-bin/batches.meta.txt", "a\nb");
    expect_error([&] { load_dataset("cifar10", options); }, {"batches.meta.txt: 2 class names, expected 10"});
}

TEST(Cifar10, RefusesBadFiles) {
    const TemporaryFolder folder;
    const auto load = [&] { load_cifar10(folder.path(), Split::test); };
    expect_error(load, {"has no test_batch.bin"});
    folder.write("data_batch_1", "pickle");
    expect_error(load, {"has no test_batch.bin", "Python version", "cifar-10-binary.tar.gz"});
    folder.write("test_batch.bin", "");
    expect_error(load, {"test_batch.bin: 0 bytes", "records of 3073"});
    folder.write("test_batch.bin", cifar_record(1, 1) + "x");
    expect_error(load, {"test_batch.bin: 3074 bytes"});
    folder.write("test_batch.bin", cifar_record(1, 1) + cifar_record(10, 1));
    expect_error(load, {"test_batch.bin: record 1: label 10"});
    expect_error([&] { load_cifar10(folder.path(), Split::train); }, {"has no data_batch_1.bin"});
}

TEST(Folder, SubfoldersAreClasses) {
    const TemporaryFolder folder;
    write_image(folder, "dog/b.png", flat(4, 4, {3}));
    write_image(folder, "cat/deep/er/z.PNG", flat(4, 4, {2}));
    write_image(folder, "cat/a.png", flat(4, 4, {1}));
    folder.write("cat/notes.txt", "not an image");
    folder.write(".hidden.png", "not an image either");
    folder.write("cat/.cache/x.png", "nor this");
    fs::create_directory_symlink(folder.path(), folder / "dog/loop");
    for (const fs::path& path : {folder.path(), folder.path() / ""}) {
        const Dataset dataset = load_dataset(path.string());
        EXPECT_EQ(dataset.count, 3);
        EXPECT_EQ(dataset.channels, 1);
        EXPECT_EQ(dataset.images[0], 1);
        EXPECT_EQ(dataset.images[16], 2);
        EXPECT_EQ(dataset.images[32], 3);
        EXPECT_EQ(dataset.labels, (Labels{0, 0, 1}));
        EXPECT_EQ(dataset.label_names, (std::vector<std::string>{"cat", "dog"}));
    }
    // An image outside the classes: no labels.
    write_image(folder, "a.png", flat(4, 4, {0}));
    const Dataset mixed = load_dataset(folder.path().string());
    EXPECT_EQ(mixed.count, 4);
    EXPECT_TRUE(mixed.labels.empty());
    EXPECT_TRUE(mixed.label_names.empty());
}

TEST(Folder, MixesGrayAndColourOfAnySize) {
    const TemporaryFolder folder;
    write_image(folder, "1.png", flat(8, 8, {100}));
    folder.write("2.jpeg", make_jpeg(flat(30, 20, {50})));
    const auto load = [&](std::int64_t size) {
        return load_dataset(folder.path().string(), {.image_size = size});
    };
    EXPECT_EQ(load(8).channels, 1);
    write_image(folder, "3.png", flat(9, 40, {10, 20, 30}));
    folder.write("4.jpg", make_jpeg(flat(16, 16, {77})));
    const Dataset dataset = load(8);
    EXPECT_EQ(dataset.count, 4);
    EXPECT_EQ(dataset.channels, 3);
    ASSERT_EQ(dataset.images.size(), 4u * 8 * 8 * 3);
    const Bytes colors[] = {{100, 100, 100}, {50, 50, 50}, {10, 20, 30}, {77, 77, 77}};
    for (std::int64_t i = 0; i < 4; ++i)
        for (std::size_t k = 0; k < 192; ++k) EXPECT_EQ(dataset.image(i)[k], colors[i][k % 3]);
    expect_error([&] { load(0); }, {"2.jpeg has 20 x 30 pixels", "1.png has 8 x 8", "give `image_size`"});
}

TEST(Folder, TakesASplitAndRefusesBadOptions) {
    const TemporaryFolder folder;
    DatasetOptions options;
    write_image(folder, "x/1.png", flat(2, 2, {1}));
    options.split = Split::test;
    expect_error([&] { load_dataset(folder.path().string(), options); }, {"has no test split"});
    fs::create_directory(folder / "train");
    fs::rename(folder / "x", folder / "train/x");
    expect_error([&] { load_dataset(folder.path().string(), options); }, {"has no test split"});
    write_image(folder, "test/y/1.png", flat(2, 2, {2}));
    EXPECT_EQ(load_dataset(folder.path().string(), options).images[0], 2);
    const Dataset train = load_dataset(folder.path().string());
    EXPECT_EQ(train.count, 1);
    EXPECT_EQ(train.images[0], 1);
    EXPECT_EQ(train.label_names, (std::vector<std::string>{"x"}));
    ASSERT_EQ(train.notes.size(), 1u);
    EXPECT_EQ(train.notes[0], "using " + (folder / "train").string() + "; test is not used");

    options = {};
    options.image_size = 5000;
    expect_error([&] { load_dataset(folder.path().string(), options); }, {"`image_size` 5000", "4096"});
    options.image_size = -1;
    expect_error([&] { load_dataset("mnist", options); }, {"`image_size` -1"});
    options = {};
    options.data_dir = "/tmp";
    expect_error([&] { load_dataset(folder.path().string(), options); }, {"`data_dir` /tmp", "no meaning"});
    expect_error([] { load_dataset("imagenet"); },
                 {"`data` imagenet: is neither fashion-mnist, mnist, cifar10 nor a folder"});
    fs::create_directory(folder / "empty");
    expect_error([&] { load_dataset((folder / "empty").string()); },
                 {"/empty: holds no PNG, JPEG or WebP file"});
    folder.write("broken/1.png", "not a png");
    expect_error([&] { load_dataset((folder / "broken").string()); },
                 {"broken/1.png: is a text file, expected PNG, JPEG or WebP"});
    EXPECT_EQ(parse_split("test"), Split::test);
    expect_error([] { parse_split("val"); }, {"\"val\", expected train or test"});
}

}  // namespace
}  // namespace ito::diffusion
