#include "diffusion/data/cifar10.h"

#include <string_view>

#include "core/error.h"
#include "core/io/input_file.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t side = 32, plane = side * side, record = 1 + 3 * plane, classes = 10;

void append_batch(Dataset& dataset, const fs::path& path) {
    const FileContent file(path);
    const auto bytes = file.bytes();
    require(!bytes.empty() && bytes.size() % record == 0,
            "{}: {} bytes, expected a whole number of records of {} (file cut short?)", path.string(),
            bytes.size(), record);
    for (std::size_t i = 0; i < bytes.size() / record; ++i) {
        const std::byte* from = bytes.data() + i * record;
        const auto label = std::to_integer<std::int64_t>(from[0]);
        require(label < static_cast<std::int64_t>(classes), "{}: record {}: label {}, expected from 0 to 9",
                path.string(), i, label);
        dataset.labels.push_back(label);
        for (std::size_t p = 0; p < plane; ++p)
            for (std::size_t c = 0; c < 3; ++c)
                dataset.images.push_back(std::to_integer<std::uint8_t>(from[1 + c * plane + p]));
    }
}

std::vector<std::string> class_names(const fs::path& path) {
    if (!fs::exists(path))
        return {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
    const FileContent file(path);
    std::vector<std::string> names;
    std::string_view rest = file.text();
    while (!rest.empty()) {
        const std::size_t end = rest.find_first_of("\r\n");
        if (end != 0) names.emplace_back(rest.substr(0, end));
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    require(names.size() == classes, "{}: {} class names, expected {}", path.string(), names.size(), classes);
    return names;
}

}  // namespace

Dataset load_cifar10(const fs::path& folder, Split split) {
    require(fs::is_directory(folder), "{}: is not a folder", folder.string());
    const fs::path inner = folder / "cifar-10-batches-bin";
    const fs::path base = fs::is_directory(inner) ? inner : folder;
    std::vector<std::string> names = {"test_batch.bin"};
    if (split == Split::train) {
        names.clear();
        for (int i = 1; i <= 5; ++i) names.push_back(fmt::format("data_batch_{}.bin", i));
    }
    for (const std::string& name : names)
        require(fs::exists(base / name), "{}: has no {}{}", base.string(), name,
                fs::exists(folder / "data_batch_1") || fs::is_directory(folder / "cifar-10-batches-py")
                    ? " (this is the Python version, expected the binary one, cifar-10-binary.tar.gz)"
                    : "");
    Dataset dataset;
    dataset.height = dataset.width = side;
    dataset.channels = 3;
    for (const std::string& name : names) append_batch(dataset, base / name);
    dataset.count = static_cast<std::int64_t>(dataset.labels.size());
    dataset.label_names = class_names(base / "batches.meta.txt");
    return dataset;
}

}  // namespace ito::diffusion
