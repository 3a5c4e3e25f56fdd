// Files that are cut short, damaged, or lie about themselves, through the real command: one line that names the file,
// and nothing written.

#include <functional>

#include "tests/apps/ito_command.h"
#include "tests/support/made_files.h"

namespace ito::apps {
namespace {

using testing::big_endian;
using testing::gzip;
using testing::png_announcing;

std::string flipped(std::string bytes, std::size_t at) {
    bytes.at(at) = static_cast<char>(bytes[at] ^ 0x10);
    return bytes;
}

/// One bad file, and what is said about it.
struct Case {
    std::string name, content;
    std::vector<const char*> parts;
};

class BadFiles : public ::testing::Test {
  protected:
    std::string at(const std::string& name) const { return (folder_ / name).string(); }

    /// Is refused with one line that names `file`, and no run is begun.
    void expect_train_refused(const Case& bad, const std::string& file, const Arguments& data) {
        SCOPED_TRACE(bad.name);
        const auto result = ito(train_tiny("", folder_ / "run") + Arguments{"--steps", "2"} + data);
        expect_refused(result, {file.c_str()});
        for (const char* part : bad.parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << result.err << "lacks " << part;
        EXPECT_FALSE(fs::exists(folder_ / "run"));
    }

    TemporaryFolder folder_;
};

TEST_F(BadFiles, Idx) {
    const std::string pixels(4 * 64, '\7'), labels = big_endian({0x801, 4}) + std::string(4, '\1');
    const std::string good = big_endian({0x803, 4, 8, 8}) + pixels, zipped = gzip(good);
    const auto images = [&](const Case& bad, const std::string& name = "train-images-idx3-ubyte") {
        fs::remove_all(at("data"));
        folder_.write("data/train-labels-idx1-ubyte", labels);
        folder_.write("data/" + name, bad.content);
        expect_train_refused(bad, name, {"--data", "mnist", "--data-dir", at("data")});
    };
    const Case plain[] = {
        {"empty", "", {"ends inside the IDX header"}},
        {"half a header", good.substr(0, 9), {"ends inside the IDX header"}},
        {"a file of labels", labels, {"begins with 0x00000801", "0x00000803"}},
        {"the other byte order", big_endian({0x03080000}) + good.substr(4), {"begins with"}},
        {"text", "<!DOCTYPE html><html></html>", {"begins with"}},
        {"no images", big_endian({0x803, 0, 8, 8}), {"no images"}},
        {"more images than there are", big_endian({0x803, 5, 8, 8}) + pixels, {"announces 320", "cut short"}},
        {"fewer images", big_endian({0x803, 3, 8, 8}) + pixels, {"longer than the 192 bytes"}},
        {"no width", big_endian({0x803, 4, 8, 0}) + pixels, {"0 x 8", "1 to 4096"}},
        {"absurd sides", big_endian({0x803, 4, 0xffffffff, 0xffffffff}) + pixels, {"4294967295"}},
        {"an absurd count",
         big_endian({0x803, 0xffffffff, 4096, 4096}) + pixels,
         {"4294967295 images", "GiB"}},
        {"a large count", big_endian({0x803, 900'000, 8, 8}) + pixels, {"announces 57600000"}},
        {"one label fewer",
         big_endian({0x803, 5, 8, 8}) + pixels + std::string(64, '\0'),
         {"4 labels", "5 images"}},
    };
    for (const Case& bad : plain) images(bad);
    const Case compressed[] = {
        {"cut", zipped.substr(0, zipped.size() - 12), {}},
        {"without its checksum", zipped.substr(0, zipped.size() - 6), {}},
        {"a flipped bit of the checksum", flipped(zipped, zipped.size() - 7), {}},
        {"a flipped bit of the data", flipped(zipped, 14), {}},
        {"only the beginning", zipped.substr(0, 5), {}},
        {"a cut file compressed", gzip(good.substr(0, 100)), {"announces 256"}},
    };
    for (const Case& bad : compressed) images(bad, "train-images-idx3-ubyte.gz");

    const auto label_file = [&](const Case& bad) {
        fs::remove_all(at("data"));
        folder_.write("data/train-images-idx3-ubyte", good);
        folder_.write("data/train-labels-idx1-ubyte", bad.content);
        expect_train_refused(bad, "train-labels-idx1-ubyte", {"--data", "mnist", "--data-dir", at("data")});
    };
    const Case bad_labels[] = {
        {"empty", "", {"header"}},
        {"too many", big_endian({0x801, 5}) + std::string(5, '\1'), {"5 labels", "4 images"}},
        {"cut", labels.substr(0, 10), {"ends after 2 bytes"}},
        {"out of range", big_endian({0x801, 4}) + "\1\2\3\12", {"label 3 is 10"}},
    };
    for (const Case& bad : bad_labels) label_file(bad);

    fs::remove_all(at("data"));
    fs::create_directories(at("data/train-images-idx3-ubyte"));
    folder_.write("data/train-labels-idx1-ubyte", labels);
    expect_train_refused({"a folder", "", {"not a regular file"}}, "train-images-idx3-ubyte",
                         {"--data", "mnist", "--data-dir", at("data")});
    expect_train_refused({"a file for a folder", "", {"is not a folder"}}, "idx",
                         {"--data", "mnist", "--data-dir", folder_.write("idx", good).string()});
}

TEST_F(BadFiles, Cifar10) {
    const std::string record = '\3' + std::string(3072, '\5'), good = record + record;
    const auto batch = [&](const Case& bad, const std::string& name = "data_batch_5.bin") {
        fs::remove_all(at("data"));
        for (int i = 1; i <= 5; ++i) folder_.write("data/data_batch_" + std::to_string(i) + ".bin", good);
        folder_.write("data/" + name, bad.content);
        expect_train_refused(bad, name, {"--data", "cifar10", "--data-dir", at("data")});
    };
    batch({"empty", "", {"0 bytes", "3073"}});
    batch({"cut", good.substr(0, 6000), {"6000 bytes", "cut short"}});
    batch({"longer", good + "x", {"6147 bytes"}});
    batch({"a label of 10", record + '\12' + record.substr(1), {"record 1: label 10", "0 to 9"}});
    batch({"CIFAR-100", '\3' + good, {"6147 bytes"}});
    batch({"two names", "cat\ndog\n", {"2 class names, expected 10"}}, "batches.meta.txt");
    fs::remove(at("data/data_batch_2.bin"));
    fs::remove(at("data/batches.meta.txt"));
    expect_train_refused({"one is missing", "", {"has no data_batch_2.bin"}}, "data",
                         {"--data", "cifar10", "--data-dir", at("data")});
    folder_.write("data/data_batch_1", "pickle");
    expect_train_refused({"the Python version", "", {"binary"}}, "data",
                         {"--data", "cifar10", "--data-dir", at("data")});
    fs::create_directories(at("data/data_batch_2.bin"));
    expect_train_refused({"a folder", "", {}}, "data_batch_2.bin",
                         {"--data", "cifar10", "--data-dir", at("data")});
}

TEST_F(BadFiles, Pictures) {
    const std::string png = testing::make_png(blob(1, 8, 8, 3));
    const std::string jpeg = testing::make_jpeg(blob(1, 8, 8, 3));
    const std::string signature = png.substr(0, 8);
    const Case pngs[] = {
        {"empty", "", {}},
        {"only the signature", signature, {}},
        {"half a header", png.substr(0, 20), {}},
        {"no data", png.substr(0, 33), {}},
        {"cut", png.substr(0, png.size() - 20), {}},
        {"a damaged header", flipped(png, 19), {}},
        {"damaged data", flipped(png, png.size() - 20), {}},
        {"no columns", png_announcing(0, 8), {}},
        {"absurd sides", png_announcing(0x7fffffff, 0x7fffffff), {}},
        {"large, without pixels", png_announcing(4096, 4096), {}},
        {"text", "GIF89a", {"is a GIF image, expected PNG, JPEG or WebP"}},
    };
    const Case jpegs[] = {
        {"only the marker", jpeg.substr(0, 2), {}},
        {"half a header", jpeg.substr(0, 100), {}},
        {"cut", jpeg.substr(0, jpeg.size() - 12), {}},
        {"a damaged Huffman table", flipped(jpeg, jpeg.find("\xff\xc4") + 6), {}},
        {"text", std::string("\xff\xd8\xff") + std::string(100, 'x'), {}},
    };
    const auto refused = [&](const Case& bad, const std::string& name) {
        fs::remove_all(at("data"));
        write_pngs(folder_, "data", 3, 8, 8, 3);
        folder_.write("data/" + name, bad.content);
        expect_train_refused(bad, name, {"--data", at("data")});
        // Also where all are scaled.
        expect_train_refused(bad, name, {"--data", at("data"), "--image-size", "8"});
    };
    for (const Case& bad : pngs) refused(bad, "200.png");
    for (const Case& bad : jpegs) refused(bad, "200.jpg");
    fs::remove_all(at("data"));
    write_pngs(folder_, "data", 3, 8, 8, 3);
    fs::create_symlink(at("nowhere"), at("data/link.png"));
    expect_train_refused({"a link to nothing", "", {}}, "link.png", {"--data", at("data")});
    fs::remove(at("data/link.png"));
    write_pngs(folder_, "data", 1, 8, 9, 3);
    expect_train_refused({"of another shape", "", {"9 x 8", "8 x 8", "--image-size"}}, "png",
                         {"--data", at("data")});
}

}  // namespace
}  // namespace ito::apps
