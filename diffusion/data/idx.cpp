#include "diffusion/data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include "core/error.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t image_magic = 0x00000803, label_magic = 0x00000801;
constexpr std::uint32_t max_extent = 4096;
constexpr std::uint64_t max_bytes = std::uint64_t{16} << 30;

/// Reads a file through zlib, which reads plain files too.
class GzipFile {
  public:
    explicit GzipFile(const fs::path& path) : name_(path.string()) {
        require(fs::is_regular_file(path), "{}: {}", name_,
                fs::exists(path) ? "not a regular file" : "does not exist");
        file_.reset(gzopen(name_.c_str(), "rb"));
        require(file_ != nullptr, "{}: cannot be opened: {}", name_, std::strerror(errno));
        gzbuffer(file_.get(), 1 << 17);
    }

    const std::string& name() const { return name_; }

    /// Up to `size` bytes; fewer only at the end of the file.
    std::size_t read(std::uint8_t* to, std::size_t size) {
        std::size_t done = 0;
        while (done < size) {
            const std::size_t piece = std::min<std::size_t>(size - done, 1 << 24);
            const int got = gzread(file_.get(), to + done, static_cast<unsigned>(piece));
            if (got < 0) {
                int code = Z_OK;
                const char* message = gzerror(file_.get(), &code);
                fail("{}: cannot be read: {}", name_, code == Z_ERRNO ? std::strerror(errno) : message);
            }
            if (got == 0) break;
            done += static_cast<std::size_t>(got);
        }
        return done;
    }

    std::uint32_t read_u32() {
        std::array<std::uint8_t, 4> b{};
        const std::size_t got = read(b.data(), b.size());
        require(got == b.size(), "{}: ends inside the IDX header", name_);
        return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
    }

    /// Exactly `size` bytes and then the end. Memory grows with the data, not with what a header says.
    std::vector<std::uint8_t> read_to_end(std::uint64_t size) {
        std::vector<std::uint8_t> bytes;
        while (bytes.size() < size) {
            const std::size_t before = bytes.size();
            const std::size_t piece =
                std::min<std::uint64_t>(size - before, std::max<std::uint64_t>(before, 1 << 20));
            bytes.resize(before + piece);
            const std::size_t got = read(bytes.data() + before, piece);
            require(got == piece,
                    "{}: ends after {} bytes of data, its header announces {} (file cut short?)", name_,
                    before + got, size);
        }
        std::uint8_t extra = 0;
        require(read(&extra, 1) == 0, "{}: is longer than the {} bytes of data that its header announces",
                name_, size);
        // Reports a gzip stream that stopped before its checksum.
        int code = Z_OK;
        const char* message = gzerror(file_.get(), &code);
        require(code == Z_OK || code == Z_STREAM_END, "{}: damaged gzip file: {}", name_, message);
        return bytes;
    }

  private:
    struct Close {
        void operator()(gzFile file) const { gzclose(file); }
    };
    std::string name_;
    std::unique_ptr<std::remove_pointer_t<gzFile>, Close> file_;
};

void check_magic(GzipFile& file, std::uint32_t expected, const char* what) {
    const std::uint32_t magic = file.read_u32();
    require(magic == expected, "{}: begins with {:#010x}, expected {:#010x} (IDX {})", file.name(), magic,
            expected, what);
}

std::vector<std::int64_t> load_labels(const fs::path& path, std::int64_t images,
                                      const std::string& image_file) {
    GzipFile file(path);
    check_magic(file, label_magic, "labels");
    const std::uint32_t count = file.read_u32();
    require(count == images, "{}: {} labels, but {} has {} images", file.name(), count, image_file, images);
    const std::vector<std::uint8_t> bytes = file.read_to_end(count);
    return {bytes.begin(), bytes.end()};
}

/// The file of this kind under any of its usual names.
fs::path find_file(const fs::path& folder, const char* part, const char* kind) {
    for (const char* separator : {"-", "."})
        for (const char* ending : {"", ".gz"}) {
            const fs::path candidate = folder / fmt::format("{}{}{}{}", part, separator, kind, ending);
            if (fs::exists(candidate)) return candidate;
        }
    fail("{}: has no {}-{} (nor with a dot, nor with .gz)", folder.string(), part, kind);
}

Dataset load_ten_classes(const fs::path& folder, Split split, std::vector<std::string> names) {
    require(fs::is_directory(folder), "{}: is not a folder", folder.string());
    const bool train = split == Split::train;
    const fs::path images = find_file(folder, train ? "train-images" : "t10k-images", "idx3-ubyte");
    const fs::path labels = find_file(folder, train ? "train-labels" : "t10k-labels", "idx1-ubyte");
    Dataset dataset = load_idx(images, labels);
    for (std::size_t i = 0; i < dataset.labels.size(); ++i)
        require(dataset.labels[i] < 10, "{}: label {} is {}, expected from 0 to 9", labels.string(), i,
                dataset.labels[i]);
    dataset.label_names = std::move(names);
    return dataset;
}

}  // namespace

Dataset load_idx(const fs::path& images, const fs::path& labels) {
    GzipFile file(images);
    check_magic(file, image_magic, "images");
    const std::uint32_t count = file.read_u32(), height = file.read_u32(), width = file.read_u32();
    require(count > 0, "{}: holds no images", file.name());
    require(height > 0 && height <= max_extent && width > 0 && width <= max_extent,
            "{}: images of {} x {} pixels, expected from 1 to {} each way", file.name(), width, height,
            max_extent);
    // Divided, since the product of three 32-bit numbers may not fit.
    require(count <= max_bytes / (std::uint64_t{height} * width),
            "{}: {} images of {} x {} pixels: more than {} GiB", file.name(), count, width, height,
            max_bytes >> 30);
    Dataset dataset;
    dataset.count = count;
    dataset.height = height;
    dataset.width = width;
    dataset.channels = 1;
    dataset.images = file.read_to_end(std::uint64_t{count} * height * width);
    if (!labels.empty()) dataset.labels = load_labels(labels, count, file.name());
    return dataset;
}

Dataset load_mnist(const fs::path& folder, Split split) {
    return load_ten_classes(folder, split, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
}

Dataset load_fashion_mnist(const fs::path& folder, Split split) {
    static const fs::path debian = "/usr/share/datasets/fashion-mnist";
    require(
        !folder.empty() || fs::is_directory(debian),
        "`data` fashion-mnist: {} does not exist; apt-get install dataset-fashion-mnist, or give `data_dir`",
        debian.string());
    return load_ten_classes(folder.empty() ? debian : folder, split,
                            {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                             "Sneaker", "Bag", "Ankle boot"});
}

}  // namespace ito::diffusion
