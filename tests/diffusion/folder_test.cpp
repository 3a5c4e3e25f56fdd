// Which files of a folder become data, and what is said about the others.

#include "diffusion/data/folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/context.h"
#include "tests/support/expect_error.h"
#include "tests/support/image_files.h"
#include "tests/support/temporary_folder.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::flat;
using testing::make_jpeg;
using testing::TemporaryFolder;
using Names = std::vector<std::string>;

std::string png(std::uint8_t shade = 0, std::int64_t side = 4, std::size_t channels = 1) {
    return testing::make_png(flat(side, side, std::vector(channels, shade)));
}

class FolderOfImages : public ::testing::Test {
  protected:
    void write(const Names& names) const {
        for (const auto& name : names) folder_.write(name, png());
    }
    /// The files taken, relative to the folder.
    Names taken(Split split = Split::train) const {
        Names names;
        for (const fs::path& file : scan_folder(folder_.path(), split).files)
            names.push_back(file.lexically_relative(folder_.path()).string());
        return names;
    }
    Names notes() const { return scan_folder(folder_.path()).notes; }
    std::string at(const std::string& name) const { return (folder_ / name).string(); }
    void expect_refused(std::initializer_list<const char*> parts) const {
        expect_error([&] { scan_folder(folder_.path()); }, parts);
    }

    TemporaryFolder folder_;
};

TEST_F(FolderOfImages, TakesFilesByNameOrFirstBytes) {
    write({"a.PNG", "b.jpg", "c.Jpeg", "d.jpe", "e.JFIF", "f.webp", "g", "h.gif", "i.jpg_large",
           ".hidden.png", ".thumbnails/x.png"});
    for (const char* name : {"j.txt", "k.json", "l.CSV"}) folder_.write(name, "text");
    folder_.write("m.gif", "GIF89a");
    folder_.write("n.heic", "ftyp");
    folder_.write("o.gif", "GIF89a");
    folder_.write("README", "text");
    folder_.write("empty.bin", "");
    EXPECT_EQ(taken(),
              (Names{"a.PNG", "b.jpg", "c.Jpeg", "d.jpe", "e.JFIF", "f.webp", "g", "h.gif", "i.jpg_large"}));
    EXPECT_EQ(
        notes(),
        (Names{folder_.path().string() +
               ": passed over 3 images of formats that are not read (2 gif, 1 heic; convert them to PNG, "
               "JPEG or WebP to train on them), 5 other files (1 bin, 1 csv, 1 json, 1 txt, 1 without "
               "extension)"}));
}

TEST_F(FolderOfImages, TakesFilesInTheOrderOfPaths) {
    write({"a.png", "a/b.png", "a/b/c.png", "a-b/c.png", "B.png", "a.d/x.png", "z/1.png", "b.png"});
    std::vector<fs::path> sorted;
    for (const std::string& name : taken()) sorted.emplace_back(name);
    EXPECT_EQ(sorted.size(), 8u);
    EXPECT_TRUE(std::is_sorted(sorted.begin(), sorted.end()));
}

TEST_F(FolderOfImages, PassesOverSystemFolders) {
    write({"a.png", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "x/@eaDir/b.png", "#recycle/c.png",
           "Lost+Found/d.png", "$RECYCLE.BIN/e.png", "__MACOSX/f.png", "x/g.png"});
    EXPECT_EQ(taken(), (Names{"a.png", "x/g.png"}));
    ASSERT_EQ(notes().size(), 1u);
    EXPECT_NE(
        notes()[0].find("passed over system folders (#recycle, $RECYCLE.BIN, @eaDir, Lost+Found, __MACOSX)"),
        std::string::npos)
        << notes()[0];
}

TEST_F(FolderOfImages, NamesWhatCannotBeRead) {
    write({"a.png", "x/b.png"});
    fs::create_symlink("self", folder_ / "self");
    fs::create_symlink("self.png", folder_ / "self.png");
    fs::create_symlink("nowhere", folder_ / "dangling");
    fs::create_directory_symlink("..", folder_ / "x/up");
    ASSERT_EQ(mkfifo(at("pipe.png").c_str(), 0600), 0);
    EXPECT_EQ(taken(), (Names{"a.png", "x/b.png"}));
    EXPECT_EQ(notes(),
              (Names{folder_.path().string() +
                     ": passed over dangling (No such file or directory), pipe.png (not a file), self (Too "
                     "many levels of symbolic links), self.png (Too many levels of symbolic links), x/up "
                     "(leads back to a folder above it)"}));
    // A link to a missing image is taken, and fails when it is read.
    fs::create_symlink("nowhere.png", folder_ / "gone.png");
    EXPECT_EQ(taken(), (Names{"a.png", "gone.png", "x/b.png"}));
    expect_error([&] { load_folder(scan_folder(folder_.path())); },
                 {"gone.png", "No such file", "1 of 3 images"});
}

TEST_F(FolderOfImages, PassesOverFoldersThatMayNotBeOpened) {
    if (geteuid() == 0) GTEST_SKIP() << "root may open every folder";
    write({"a.png", "private/b.png"});
    fs::permissions(folder_ / "private", fs::perms::none);
    EXPECT_EQ(taken(), (Names{"a.png"}));
    EXPECT_EQ(notes(), (Names{folder_.path().string() + ": passed over private (Permission denied)"}));
    fs::permissions(folder_ / "private", fs::perms::owner_all);
}

TEST_F(FolderOfImages, TakesOneSplit) {
    for (const char* train : {"train", "Training", "TRAIN"})
        for (const char* other : {"test", "val", "Valid", "validation", "testing", "eval"}) {
            const TemporaryFolder folder;
            folder.write(std::string(train) + "/cat/1.png", png());
            folder.write(std::string(other) + "/cat/2.png", png());
            const FolderScan scan = scan_folder(folder.path());
            EXPECT_EQ(scan.folder, folder / train);
            EXPECT_EQ(scan.files, (std::vector<fs::path>{folder / train / "cat/1.png"}));
            EXPECT_EQ(scan.notes,
                      (Names{"using " + (folder / train).string() + "; " + other + " is not used"}));
        }
    write({"train/1.png", "val/2.png", "test/3.png"});
    folder_.write("annotations/all.json", "{}");
    EXPECT_EQ(taken(), (Names{"train/1.png"}));
    EXPECT_EQ(notes(), (Names{"using " + at("train") + "; val, test are not used",
                              folder_.path().string() + ": passed over 1 other file (1 json)"}));
    EXPECT_EQ(taken(Split::test), (Names{"test/3.png"}));
}

TEST_F(FolderOfImages, PassesOverTheSamplesOfARun) {
    write({"train/1.png", "runs/a/samples/2.png", "runs/3.png"});
    folder_.write("runs/a/model_index.json", "{}");
    expect_refused({"train has a split's name", "(runs)"});
    fs::remove(folder_ / "runs/3.png");
    EXPECT_EQ(taken(), (Names{"train/1.png"}));
    EXPECT_EQ(notes(),
              (Names{folder_.path().string() + ": passed over runs/a (a model, no images to train on)"}));
}

TEST_F(FolderOfImages, RefusesAnUnclearSplit) {
    write({"train/1.png", "cat/2.png"});
    expect_refused({"train has a split's name", "(cat)", "`data`", "/train to take that alone", "rename"});
    fs::remove_all(folder_ / "cat");
    EXPECT_EQ(taken(), (Names{"train/1.png"}));
    write({"2.png"});
    expect_refused({"train has a split's name", "(2.png)", "`data`"});
    fs::remove(folder_ / "2.png");
    write({"Training/1.png"});
    expect_refused({"Training, train are the same split", "give `data`", "/Training"});
    fs::remove_all(folder_ / "Training");
    fs::remove_all(folder_ / "train");
    write({"test/1.png", "val/1.png"});
    expect_refused({"and no train split", "`data`", "/val to train on that"});
    fs::create_directory(folder_ / "train");
    expect_refused({"/train: holds no PNG, JPEG or WebP file"});
    // An empty folder is no class and no split.
    fs::remove_all(folder_ / "test");
    fs::remove_all(folder_ / "val");
    fs::create_directory(folder_ / "test");
    write({"cat/1.png"});
    EXPECT_EQ(taken(), (Names{"cat/1.png"}));
}

TEST_F(FolderOfImages, RefusesAFolderWithoutImages) {
    for (int i = 0; i < 12; ++i) folder_.write("x/" + std::to_string(i) + ".tiff", "II*");
    folder_.write("x/a.txt", "text");
    expect_refused(
        {"holds no PNG, JPEG or WebP file; passed over 12 images", "12 tiff", "1 other file (1 txt)"});
    expect_error([&] { scan_folder(folder_ / "none"); }, {"/none: is not a folder"});
}

TEST_F(FolderOfImages, NamesAllBrokenFiles) {
    write({"a/ok.png"});
    folder_.write("b/broken.png", png().substr(0, 30));
    const auto load = [&](bool skip = false, bool resumed = false) {
        return load_folder(scan_folder(folder_.path()), {.skip_broken = skip, .resumed = resumed});
    };
    expect_error([&] { load(); }, {"b/broken.png: ", "1 of 2 images cannot be read", "`skip_broken`"});
    for (int i = 10; i < 22; ++i) folder_.write("c/" + std::to_string(i) + ".jpg", "GIF89a");
    expect_error([&] { load(); }, {": 13 of 14 images cannot be read: b/broken.png, c/10.jpg, ",
                                   "c/18.jpg and 3 more", "`skip_broken`"});
    expect_error([&] { load(false, true); }, {"13 of 14 images", "restore what was there"});

    const Dataset set = load(true);
    EXPECT_EQ(set.count, 1);
    EXPECT_EQ(set.left_out.size(), 13u);
    EXPECT_EQ(set.left_out.front(), "b/broken.png");
    EXPECT_EQ(set.label_names, (Names{"a"}));
    ASSERT_EQ(set.notes.size(), 1u);
    EXPECT_NE(set.notes[0].find("left out 13 of 14 images that cannot be read: b/broken.png, c/10.jpg"),
              std::string::npos)
        << set.notes[0];
    fs::remove(folder_ / "a/ok.png");
    expect_error([&] { load(true); }, {"none of the 13 images can be read", "b/broken.png: "});
}

/// Several batches of decoding, gray images before the first in colour, broken ones between them.
TEST_F(FolderOfImages, IsTheSameForAnyNumberOfThreads) {
    for (int i = 0; i < 200; ++i) {
        const auto shade = static_cast<std::uint8_t>(i);
        const std::string name = "x/" + std::to_string(1000 + i);
        if (i % 17 == 5) {
            folder_.write(name + ".jpg", "broken");
        } else if (i % 2 == 0) {
            folder_.write(name + ".png", png(shade, 8 + i % 5, i > 100 && i % 3 == 0 ? 3 : 1));
        } else {
            folder_.write(name + ".jpg", make_jpeg(flat(8 + i % 7, 8 + i % 7, {shade})));
        }
    }
    const int before = threads();
    std::vector<Dataset> sets;
    for (const int count : {1, 2, 7}) {
        set_threads(count);
        sets.push_back(load_dataset(folder_.path().string(), {.image_size = 6, .skip_broken = true}));
    }
    set_threads(before);
    EXPECT_EQ(sets[0].count, 188);
    EXPECT_EQ(sets[0].channels, 3);
    EXPECT_EQ(sets[0].image(0)[0], 0);
    EXPECT_EQ(sets[0].image(187)[0], 199);
    for (const Dataset& set : sets) {
        EXPECT_TRUE(set.images == sets[0].images);
        EXPECT_EQ(set.left_out, sets[0].left_out);
        EXPECT_EQ(set.notes, sets[0].notes);
    }
}

TEST_F(FolderOfImages, NotesLargeImages) {
    folder_.write("a.png", png(1, 900));
    const Dataset whole = load_dataset(folder_.path().string());
    ASSERT_EQ(whole.notes.size(), 1u);
    EXPECT_NE(whole.notes[0].find("images of 900x900"), std::string::npos) << whole.notes[0];
    EXPECT_NE(whole.notes[0].find("`image_size` 64"), std::string::npos) << whole.notes[0];
    EXPECT_TRUE(load_dataset(folder_.path().string(), {.image_size = 64}).notes.empty());
}

TEST(CheckMemory, NamesImageSize) {
    const std::int64_t many = std::int64_t{1} << 32;
    expect_error([&] { check_memory(many, 3000, 4000, 3, {}); },
                 {"images of 4000x3000 pixels", "GiB are free", "`image_size` 64"});
    expect_error([&] { check_memory(many, 64, 64, 3, {.image_size = 64}); },
                 {"`image_size` 64", "use a smaller size"});
    expect_error([&] { check_memory(many, 64, 64, 3, {.resumed = true}); }, {"64x64", "resume on a machine"});
}

TEST_F(FolderOfImages, NotesFoldersThatSoundLikeSplits) {
    const auto write = [&](const std::string& name) { folder_.write(name + "/a.png", "x"); };
    for (const char* name : {"train2017", "val2017"}) write(name);
    EXPECT_EQ(notes(), Names{folder_.path().string() +
                             ": train2017, val2017 sound like splits, and all are used; give `data` " +
                             at("train2017") + " to take that alone"});
    // One folder deeper, as archives unpack them.
    for (const char* name : {"train2017", "val2017"}) std::filesystem::remove_all(at(name));
    for (const char* name : {"ds/train_images", "ds/testset"}) write(name);
    EXPECT_EQ(notes().size(), 1u);
    // A class of trains beside other classes is no split.
    std::filesystem::remove_all(at("ds"));
    for (const char* name : {"vehicles/train", "vehicles/bus", "intestines/evaluated"}) write(name);
    EXPECT_EQ(notes(), Names{});
}

TEST_F(FolderOfImages, EntersALinkedFolderOnce) {
    constexpr int folders = 12;  // 12! ways
    for (int i = 0; i < folders; ++i) {
        folder_.write(std::to_string(i) + "/a.png", "x");
        for (int j = 0; j < folders; ++j)
            std::filesystem::create_symlink("../" + std::to_string(j),
                                            at(std::to_string(i) + "/l" + std::to_string(j)));
    }
    EXPECT_EQ(scan_folder(folder_.path()).files.size(), std::size_t{folders});
    // A hidden folder is only seen through links.
    folder_.write(".store/cats/c.png", "x");
    std::filesystem::create_symlink(".store/cats", at("cats"));
    EXPECT_EQ(scan_folder(folder_.path()).files.size(), std::size_t{folders + 1});
    std::filesystem::remove(at("cats"));
    // A folder elsewhere is taken once.
    const TemporaryFolder elsewhere;
    elsewhere.write("b.png", "x");
    for (const char* name : {"x", "y"}) std::filesystem::create_directory_symlink(elsewhere.path(), at(name));
    EXPECT_EQ(scan_folder(folder_.path()).files.size(), std::size_t{folders + 1});
}

}  // namespace
}  // namespace ito::diffusion
