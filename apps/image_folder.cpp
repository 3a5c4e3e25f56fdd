#include "apps/image_folder.h"

#include <zlib.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/input_file.h"
#include "core/io/json_depth.h"
#include "core/io/text_file.h"
#include "diffusion/image/png.h"

namespace ito::apps {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

bool has_pictures(const fs::path& folder) {
    for (const auto& entry : fs::directory_iterator(folder))
        if (entry.path().extension() == ".png") return true;
    return false;
}

/// Whether it begins and ends as a PNG does. All of it was written at once (core/io/atomic_file.h).
bool is_whole_png(const fs::path& path) {
    constexpr std::string_view signature = "\x89PNG\r\n\x1a\n", end{"\0\0\0\0IEND\xae\x42\x60\x82", 12};
    const InputFile file(path);
    if (file.size() < signature.size() + end.size()) return false;
    std::string first(signature.size(), '\0'), last(end.size(), '\0');
    file.read(0, std::as_writable_bytes(std::span(first)));
    file.read(file.size() - end.size(), std::as_writable_bytes(std::span(last)));
    return first == signature && last == end;
}

/// Throws unless the pictures of the folder were made by `settings`.
void require_same_settings(const fs::path& folder, const fs::path& record, const Json& settings,
                           const Json& unwritten) {
    const std::string text = read_text(record);
    require_shallow_json(text, record.string());
    const Json before = Json::parse(text, nullptr, false);
    require(before.is_object(), "{}: not a JSON object, so how these images were made is not known",
            record.string());
    for (const auto& [name, value] : settings.items()) {
        const Json& record_of_it = before.contains(name) ? before : unwritten;
        const auto old = record_of_it.find(name);
        const bool known = old != record_of_it.end();
        require(known && *old == value,
                "--folder {}: holds images of another sampling (its {} is {}, this one's {}); choose another "
                "folder",
                folder.string(), name,
                known ? excerpt(old->dump(-1, ' ', false, Json::error_handler_t::replace)) : "unknown",
                value.dump());
    }
}

}  // namespace

ImageFolder::ImageFolder(fs::path folder, const Json& settings, const Json& unwritten)
    : folder_(std::move(folder)) {
    make_folder(folder_);
    const fs::path record = folder_ / "sampling.json";
    std::error_code ignored;
    // A full disk or a copy that was stopped leaves an empty record.
    if (fs::exists(record) && fs::file_size(record, ignored) > 0) {
        require_same_settings(folder_, record, settings, unwritten);
        return;
    }
    require(!has_pictures(folder_),
            "--folder {}: holds pictures, and no (or an empty) sampling.json to tell that they are of this "
            "sampling; choose another folder",
            folder_.string());
    write_file_atomically(record, settings.dump(2) + "\n");
}

fs::path ImageFolder::file(std::int64_t index) const {
    return folder_ / fmt::format("{:06}.png", index);
}

bool ImageFolder::has(std::int64_t index) const {
    return fs::exists(file(index)) && is_whole_png(file(index));
}

void ImageFolder::write(std::int64_t index, const diffusion::Image& image) const {
    diffusion::write_png(file(index), image);
}

std::string fingerprint(const diffusion::Pipeline& pipeline) {
    unsigned long sum = crc32_z(0, nullptr, 0);
    const auto add = [&](const void* data, std::size_t size) {
        sum = crc32_z(sum, static_cast<const unsigned char*>(data), size);
    };
    for (const std::string& text :
         {pipeline.model->config().to_json(), diffusion::format_scheduler_config(pipeline.scheduler)})
        add(text.data(), text.size());
    for (const auto& [name, tensor] : pipeline.model->named_parameters()) {
        const auto values = tensor.to_vector<float>();
        add(values.data(), values.size() * sizeof(float));
    }
    return fmt::format("crc32 {:08x}", sum);
}

}  // namespace ito::apps
