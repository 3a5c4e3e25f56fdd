#include "diffusion/data/folder_scan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <map>
#include <set>
#include <string_view>

#include "core/error.h"
#include "diffusion/image/image.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

template <std::size_t N>
bool any_of(const std::array<std::string_view, N>& list, const std::string& word) {
    return std::find(list.begin(), list.end(), word) != list.end();
}

/// Taken by name. Opening a hundred thousand files to see that they are images would take as long as the rest of the scan, and
/// decoding them shows it anyway.
constexpr std::array<std::string_view, 6> image_extensions{"png", "jpg", "jpeg", "jpe", "jfif", "webp"};

/// Formats that are not read: files with these names are counted as images, unless they begin as a format that is read.
constexpr std::array<std::string_view, 26> foreign_extensions{
    "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "jxl", "jp2", "j2k", "ppm", "pgm", "pbm",
    "pnm", "tga", "ico", "svg",  "psd",  "exr",  "hdr",  "dng", "cr2", "cr3", "nef", "arw", "qoi"};

/// Companions of images; they are not opened.
constexpr std::array<std::string_view, 26> companion_extensions{
    "txt", "json", "jsonl", "csv", "tsv", "xml",     "yaml", "yml", "toml", "md",  "html", "htm", "caption",
    "tag", "tags", "log",   "npy", "npz", "parquet", "db",   "ini", "lnk",  "url", "py",   "sh",  "xmp"};

/// Folders of file managers, network storage and file systems, for deleted files, thumbnails and remains.
constexpr std::array<std::string_view, 15> system_folders{
    "@eadir",     "#recycle",     "#snapshot",   "@recycle", "@recently-snapshot",
    "@sharebin",  "$recycle.bin", "recycle.bin", "recycler", "system volume information",
    "lost+found", "__macosx",     "found.000",   "lost.dir", "thumbnails.noindex"};

enum class SplitName { none, train, validation, test };

SplitName split_name(const std::string& folder) {
    const std::string name = lower(folder);
    if (name == "train" || name == "training") return SplitName::train;
    if (name == "val" || name == "valid" || name == "validation" || name == "eval")
        return SplitName::validation;
    if (name == "test" || name == "testing") return SplitName::test;
    return SplitName::none;
}

/// The words in a folder's name, in lower case: "train" and "images" for "Train_Images", "val" for "val2017".
std::vector<std::string> words_of(const std::string& name) {
    std::vector<std::string> words(1);
    for (const char c : lower(name))
        if (std::isalpha(static_cast<unsigned char>(c))) {
            words.back() += c;
        } else if (!words.back().empty()) {
            words.emplace_back();
        }
    return words;
}

/// The split that a folder's name resembles: "train2017", "test-images", "valset".
SplitName sounds_like(const std::string& folder) {
    for (std::string word : words_of(folder)) {
        for (const std::string_view end : {"set", "data"})
            if (word.ends_with(end) && word.size() > end.size()) word.resize(word.size() - end.size());
        if (const SplitName name = split_name(word); name != SplitName::none) return name;
    }
    return SplitName::none;
}

/// True if the first bytes are an image's. If they cannot be read, `error` is set to errno.
bool begins_as_image(const fs::path& file, int& error) {
    const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        error = errno;
        return false;
    }
    std::array<std::byte, 12> begin;
    const ssize_t got = read(descriptor, begin.data(), begin.size());
    if (got < 0) error = errno;
    close(descriptor);
    return got > 0 && image_format(std::span(begin).first(static_cast<std::size_t>(got))).has_value();
}

using Counts = std::map<std::string, std::int64_t>;

std::int64_t sum(const Counts& counts) {
    std::int64_t all = 0;
    for (const auto& [name, count] : counts) all += count;
    return all;
}

/// "12 gif, 8 tiff".
std::string text_of(const Counts& counts) {
    std::vector<std::string> parts;
    for (const auto& [name, count] : counts) parts.push_back(fmt::format("{} {}", count, name));
    return listed(parts);
}

/// What is not data, or cannot be read.
struct PassedOver {
    Counts images, others;             ///< files by extension
    std::set<std::string> systems;     ///< names of folders
    std::vector<std::string> entries;  ///< each with its reason

    void add(const PassedOver& more) {
        for (const auto& [name, count] : more.images) images[name] += count;
        for (const auto& [name, count] : more.others) others[name] += count;
        systems.insert(more.systems.begin(), more.systems.end());
        entries.insert(entries.end(), more.entries.begin(), more.entries.end());
    }

    /// One line or more; none if nothing was passed over.
    std::vector<std::string> lines() const {
        std::vector<std::string> lines, parts;
        if (const auto count = sum(images); count > 0)
            parts.push_back(
                fmt::format("{} image{} of formats that are not read ({}; convert them to PNG, JPEG or WebP "
                            "to train on them)",
                            count, count == 1 ? "" : "s", text_of(images)));
        if (const auto count = sum(others); count > 0)
            parts.push_back(
                fmt::format("{} other file{} ({})", count, count == 1 ? "" : "s", text_of(others)));
        if (!systems.empty()) {
            const std::vector<std::string> names(systems.begin(), systems.end());
            parts.push_back(fmt::format("system folders ({})", listed(names)));
        }
        if (!parts.empty()) lines.push_back(fmt::format("passed over {}", fmt::join(parts, ", ")));
        if (!entries.empty()) lines.push_back(fmt::format("passed over {}", listed(entries)));
        return lines;
    }
};

/// What is in one subfolder, or (with an empty name) directly in the folder.
struct Part {
    std::string name;
    std::vector<fs::path> files;
    PassedOver passed;
};

class Scanner {
  public:
    explicit Scanner(const fs::path& root) : root_(root) {}

    /// In the order of paths. Images directly in the folder form several parts if subfolders come between them.
    std::vector<Part> parts() {
        std::vector<fs::directory_entry> entries;
        const std::error_code error = list(root_, entries);
        if (error) fail("{}: cannot be read: {}", root_.string(), error.message());
        real_root_ = fs::canonical(root_);
        open_.insert(real_root_);
        std::vector<Part> parts(1);
        for (const auto& entry : entries) {
            Part part{is_folder(entry) ? entry.path().filename().string() : std::string(), {}, {}};
            visit(entry, part);
            if (part.name.empty() && parts.back().name.empty()) {
                parts.back().files.insert(parts.back().files.end(), part.files.begin(), part.files.end());
                parts.back().passed.add(part.passed);
            } else {
                parts.push_back(std::move(part));
            }
        }
        return parts;
    }

  private:
    /// Lists entries by name, so that files are visited in the order of their paths.
    static std::error_code list(const fs::path& folder, std::vector<fs::directory_entry>& entries) {
        std::error_code error;
        for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
            entries.push_back(*entry);
        std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
            return a.path().native() < b.path().native();  // which begin alike
        });
        return error;
    }

    static bool is_folder(const fs::directory_entry& entry) {
        std::error_code ignored;
        return entry.is_directory(ignored);
    }

    void pass(const fs::path& path, const std::string& why, Part& part) const {
        part.passed.entries.push_back(fmt::format("{} ({})", path.lexically_relative(root_).string(), why));
    }

    void visit(const fs::directory_entry& entry, Part& part) {
        const fs::path& path = entry.path();
        const std::string name = path.filename().string();
        if (name.front() == '.') return;
        std::error_code error;
        const fs::file_type type = entry.status(error).type();
        if (type == fs::file_type::directory) {
            if (any_of(system_folders, lower(name))) {
                part.passed.systems.insert(name);
            } else {
                visit_folder(path, part);
            }
        } else if (type == fs::file_type::regular || type == fs::file_type::not_found) {
            visit_file(path, part);
        } else if (type == fs::file_type::none || type == fs::file_type::unknown) {
            pass(path, error.message(), part);
        } else {
            pass(path, "not a file", part);
        }
    }

    /// True if a folder is below the root, and none of the folders between is passed over for its name.
    bool is_visited_by_itself(const fs::path& real) const {
        const auto [root, inner] =
            std::mismatch(real_root_.begin(), real_root_.end(), real.begin(), real.end());
        return root == real_root_.end() && std::none_of(inner, real.end(), [](const fs::path& part) {
                   const std::string name = part.string();
                   return name.front() == '.' || any_of(system_folders, lower(name));
               });
    }

    /// Does not enter the folders on the way here again: a link to one of them leads in a circle.
    void visit_folder(const fs::path& folder, Part& part) {
        std::error_code error;
        const fs::path real = fs::canonical(folder, error);
        if (error) return pass(folder, error.message(), part);
        if (open_.contains(real)) return pass(folder, "leads back to a folder above it", part);
        // Entered once: with links among neighbours there are many ways to the same images. (A hidden folder is only seen through
        // links.)
        if (fs::is_symlink(folder, error) && is_visited_by_itself(real))
            return pass(folder, "a link to a folder that is here already", part);
        if (!entered_.insert(real).second) return pass(folder, "the same folder as another link's", part);
        // For example the samples of a run, in a folder beside the split that it was trained on.
        if (fs::exists(folder / "model_index.json", error))
            return pass(folder, "a model, no images to train on", part);
        std::vector<fs::directory_entry> entries;
        error = list(folder, entries);
        if (error == std::errc::permission_denied || error == std::errc::operation_not_permitted ||
            error == std::errc::no_such_file_or_directory)
            return pass(folder, error.message(), part);
        // On a failing disk, for example: half of the images are not the data set.
        if (error) fail("{}: cannot be read: {}", folder.string(), error.message());
        open_.insert(real);
        for (const auto& entry : entries) visit(entry, part);
        open_.erase(real);
    }

    /// Takes a link to a missing image too: decoding it then reports that it is missing.
    void visit_file(const fs::path& file, Part& part) const {
        std::string extension = lower(file.extension().string());
        if (!extension.empty()) extension.erase(0, 1);
        if (any_of(image_extensions, extension)) return part.files.push_back(file);
        int error = 0;
        if (!any_of(companion_extensions, extension) && begins_as_image(file, error))
            return part.files.push_back(file);
        if (error != 0) return pass(file, std::generic_category().message(error), part);
        if (extension.empty()) extension = "without extension";
        ++(any_of(foreign_extensions, extension) ? part.passed.images : part.passed.others)[extension];
    }

    const fs::path root_;
    fs::path real_root_;
    std::set<fs::path> entered_;
    std::set<fs::path> open_;  ///< the folders on the way here
};

/// The parts' names for a message; images directly in the folder are named by the first.
std::string names_of(const std::vector<const Part*>& parts) {
    std::vector<std::string> names;
    for (const Part* part : parts)
        names.push_back(part->name.empty() ? part->files.front().filename().string() : part->name);
    return listed(names);
}

/// The parts with images, sorted by the split that their name says.
struct Splits {
    std::vector<const Part*> train, validation, test, others;
    const Part* empty_train = nullptr;  ///< a train split without images
    bool any() const { return !train.empty() || !validation.empty() || !test.empty(); }

    explicit Splits(const std::vector<Part>& parts) {
        for (const Part& part : parts) {
            const SplitName name = split_name(part.name);
            if (part.files.empty()) {
                if (name == SplitName::train) empty_train = &part;
                continue;
            }
            (name == SplitName::train        ? train
             : name == SplitName::validation ? validation
             : name == SplitName::test       ? test
                                             : others)
                .push_back(&part);
        }
    }
};

/// The part to take; none if the folder has no splits. `left`: the splits that are not taken.
const Part* chosen_split(const fs::path& folder, const Splits& splits, Split split,
                         std::vector<const Part*>& left) {
    const std::string root = folder.string();
    if (!splits.any()) {
        require(split == Split::train, "{}: has no test split, expected a subfolder test", root);
        return nullptr;
    }
    if (!splits.others.empty()) {
        std::vector<const Part*> named = splits.train;
        named.insert(named.end(), splits.validation.begin(), splits.validation.end());
        named.insert(named.end(), splits.test.begin(), splits.test.end());
        fail(
            "{}: {} {} a split's name, but beside it lie images too ({}), so that what is meant is not "
            "clear; give `data` {} to take that alone, or rename it if it is a class",
            root, names_of(named), named.size() == 1 ? "has" : "have", names_of(splits.others),
            (folder / named.front()->name).string());
    }
    const auto& wanted = split == Split::train ? splits.train : splits.test;
    for (const auto* list : {&splits.train, &splits.validation, &splits.test})
        if (list != &wanted) left.insert(left.end(), list->begin(), list->end());
    require(wanted.size() < 2, "{}: {} are the same split; give `data` {} to take that alone", root,
            names_of(wanted), wanted.empty() ? root : (folder / wanted.front()->name).string());
    if (!wanted.empty()) return wanted.front();
    if (split == Split::train && splits.empty_train != nullptr) return splits.empty_train;
    require(split == Split::train, "{}: has no test split, expected a subfolder test beside {}", root,
            names_of(left));
    fail("{}: holds {} and no train split; give `data` {} to train on that", root, names_of(left),
         (folder / left.front()->name).string());
}

/// A line about folders whose names resemble splits but that are all used; empty if there are none. It needs a training split and
/// another one: a class may be called train.
std::string unused_splits(const FolderScan& scan) {
    std::map<SplitName, std::set<std::string>> found;
    fs::path last;  // files come folder by folder
    for (const fs::path& file : scan.files) {
        if (file.parent_path() == last) continue;
        last = file.parent_path();
        const fs::path inner = last.lexically_relative(scan.folder);
        fs::path way;
        for (const fs::path& part : inner) {
            way /= part;
            if (const SplitName name = sounds_like(part.string()); name != SplitName::none)
                found[name].insert(way.string());
        }
    }
    if (!found.contains(SplitName::train) || found.size() < 2) return {};
    std::vector<std::string> names;
    for (const auto& [name, ways] : found) names.insert(names.end(), ways.begin(), ways.end());
    return fmt::format("{}: {} sound like splits, and all are used; give `data` {} to take that alone",
                       scan.folder.string(), listed(names),
                       (scan.folder / *found[SplitName::train].begin()).string());
}

}  // namespace

FolderScan scan_folder(const fs::path& folder, Split split) {
    require(fs::is_directory(folder), "{}: is not a folder", folder.string());
    std::vector<Part> parts = Scanner(folder).parts();
    std::vector<const Part*> left;
    const Part* chosen = chosen_split(folder, Splits(parts), split, left);

    FolderScan scan{chosen == nullptr ? folder : folder / chosen->name, {}, {}};
    if (!left.empty())
        scan.notes.push_back(fmt::format("using {}; {} {} not used", scan.folder.string(), names_of(left),
                                         left.size() == 1 ? "is" : "are"));
    PassedOver passed;
    for (Part& part : parts) {
        if (chosen != nullptr && &part != chosen && split_name(part.name) != SplitName::none) continue;
        passed.add(part.passed);
        scan.files.insert(scan.files.end(), std::make_move_iterator(part.files.begin()),
                          std::make_move_iterator(part.files.end()));
    }
    if (const std::string note = unused_splits(scan); !note.empty()) scan.notes.push_back(note);
    const std::vector<std::string> lines = passed.lines();
    require(!scan.files.empty(), "{}: holds no PNG, JPEG or WebP file{}{}", scan.folder.string(),
            lines.empty() ? "" : "; ", fmt::join(lines, "; "));
    for (const std::string& line : lines) scan.notes.push_back(fmt::format("{}: {}", folder.string(), line));
    for (std::string& note : scan.notes) note = excerpt(note, 2000);  // names may hold line breaks
    return scan;
}

}  // namespace ito::diffusion
