#include "diffusion/report/tensorboard.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/text_file.h"
#include "diffusion/image/png.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;

// ---- protocol buffers: fields of the messages Event, Summary, Summary.Value and Summary.Image ----

enum Wire : std::uint64_t { varint_type = 0, fixed64_type = 1, bytes_type = 2, fixed32_type = 5 };

constexpr std::uint64_t event_time = 1, event_step = 2, event_version = 3, event_summary = 5,
                        event_session = 7;
constexpr std::uint64_t summary_value = 1, value_tag = 1, value_scalar = 2, value_image = 4;

template <class T>
std::string little_endian(T value) {
    static_assert(std::endian::native == std::endian::little);
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

std::string varint(std::uint64_t value) {
    std::string bytes;
    for (; value >= 128; value >>= 7) bytes += static_cast<char>(128 | (value & 127));
    return bytes + static_cast<char>(value);
}

std::string key(std::uint64_t field, Wire type) {
    return varint(field << 3 | type);
}

std::string integer(std::uint64_t field, std::uint64_t value) {
    return key(field, varint_type) + varint(value);
}

std::string bytes(std::uint64_t field, std::string_view value) {
    return key(field, bytes_type) + varint(value.size()) + std::string(value);
}

/// Reads the fields of a message one after the other.
class Fields {
  public:
    explicit Fields(std::string_view message) : rest_(message) {}

    /// False at the end, and where the message is damaged.
    bool next() {
        std::uint64_t head = 0;
        if (!read(head)) return false;
        field = head >> 3;
        content = {};
        switch (head & 7) {
            case varint_type:
                return read(number);
            case fixed64_type:
                return take(8);
            case fixed32_type:
                return take(4);
            case bytes_type: {
                std::uint64_t size = 0;
                return read(size) && take(size);
            }
            default:
                return false;
        }
    }

    std::uint64_t field = 0, number = 0;
    std::string_view content;

  private:
    bool take(std::uint64_t size) {
        if (size > rest_.size()) return false;
        content = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return true;
    }
    bool read(std::uint64_t& value) {
        value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            if (rest_.empty()) return false;
            const auto byte = static_cast<unsigned char>(rest_.front());
            rest_.remove_prefix(1);
            value |= static_cast<std::uint64_t>(byte & 127) << shift;
            if (byte < 128) return true;
        }
        return false;
    }

    std::string_view rest_;
};

/// What decides whether an event stays when a training resumes from an earlier step.
struct EventKind {
    std::int64_t step = 0;
    bool scalars = false;
};

EventKind kind_of(std::string_view event) {
    EventKind kind;
    for (Fields fields(event); fields.next();) {
        if (fields.field == event_step) kind.step = static_cast<std::int64_t>(fields.number);
        if (fields.field != event_summary) continue;
        for (Fields values(fields.content); values.next();)
            for (Fields value(values.content); value.next();) kind.scalars |= value.field == value_scalar;
    }
    return kind;
}

// ---- records ----

/// A checksum over data that contains checksums is weak, so they are stored rotated and shifted.
std::uint32_t masked(std::uint32_t crc) {
    return std::rotr(crc, 15) + 0xa282ead8u;
}

std::string record(std::string_view data) {
    const std::string length = little_endian<std::uint64_t>(data.size());
    return fmt::format("{}{}{}{}", length, little_endian(masked(crc32c(length))), data,
                       little_endian(masked(crc32c(data))));
}

/// Cuts the first record off `file` and returns its data; none at the end, or if a crash cut the record short.
std::optional<std::string_view> next_record(std::string_view& file) {
    constexpr std::size_t head = 12, tail = 4;
    if (file.size() < head + tail) return {};
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    if (length > file.size() - head - tail) return {};
    const std::string_view data = file.substr(head, length);
    file.remove_prefix(head + length + tail);
    return data;
}

constexpr std::string_view prefix = "events.out.tfevents.";

std::vector<fs::path> event_files(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder))
        if (entry.path().filename().string().starts_with(prefix) && entry.path().extension() != ".tmp")
            files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

void remove_undone(const fs::path& path, std::int64_t steps_done, std::int64_t every) {
    const std::string content = read_text(path);
    std::string kept;
    for (std::string_view rest = content; const auto data = next_record(rest);) {
        const EventKind kind = kind_of(*data);
        if (kind.step <= steps_done && (!kind.scalars || kind.step % every == 0)) kept += record(*data);
    }
    if (kept != content) write_file_atomically(path, kept);
}

/// A name that sorts after all others, even if the clock was set back.
fs::path next_file(const fs::path& folder, const std::vector<fs::path>& files, double time) {
    std::string seconds = fmt::format("{:010}", static_cast<std::int64_t>(time));
    if (!files.empty())
        seconds = std::max(seconds, files.back().filename().string().substr(prefix.size(), seconds.size()));
    return folder / fmt::format("{}{}.{:04}", prefix, seconds, files.size());
}

constexpr std::array<std::uint32_t, 256> crc_table = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0u);
        table[i] = value;
    }
    return table;
}();

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
    std::uint32_t crc = ~0u;
    for (const char c : bytes) crc = crc >> 8 ^ crc_table[(crc ^ static_cast<unsigned char>(c)) & 255];
    return ~crc;
}

double TensorboardWriter::now() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

TensorboardWriter::TensorboardWriter(const fs::path& folder, std::int64_t steps_done, std::int64_t every,
                                     Clock clock)
    : clock_(std::move(clock)) {
    make_folder(folder);
    remove_abandoned(folder);
    const auto files = event_files(folder);
    for (const fs::path& file : files) remove_undone(file, steps_done, every);
    path_ = next_file(folder, files, clock_());
    file_.open(path_, std::ios::binary | std::ios::app);
    require(file_.is_open(), "{}: cannot be opened for writing", path_.string());
    write(0, bytes(event_version, "brain.Event:2"));
    // A session that starts at a step makes readers drop what they have from that step on.
    constexpr std::uint64_t status = 1, start = 1;
    write(steps_done + 1, bytes(event_session, integer(status, start)));
}

void TensorboardWriter::write(std::int64_t step, const std::string& rest) {
    std::string event = key(event_time, fixed64_type) + little_endian(clock_());
    if (step != 0) event += integer(event_step, static_cast<std::uint64_t>(step));
    file_ << record(event + rest) << std::flush;
    require(file_.good(), "{}: cannot be written; is the disk full?", path_.string());
}

void TensorboardWriter::scalars(std::int64_t step, std::span<const std::pair<std::string, double>> values) {
    std::string summary;
    for (const auto& [tag, value] : values)
        summary += bytes(summary_value, bytes(value_tag, tag) + key(value_scalar, fixed32_type) +
                                            little_endian(static_cast<float>(value)));
    write(step, bytes(event_summary, summary));
}

void TensorboardWriter::image(std::int64_t step, const std::string& tag, const Image& image) {
    constexpr std::uint64_t height = 1, width = 2, colours = 3, encoded = 4;
    const auto png = encode_png(image);
    const std::string message = integer(height, static_cast<std::uint64_t>(image.height)) +
                                integer(width, static_cast<std::uint64_t>(image.width)) +
                                integer(colours, static_cast<std::uint64_t>(image.channels)) +
                                bytes(encoded, {reinterpret_cast<const char*>(png.data()), png.size()});
    write(step,
          bytes(event_summary, bytes(summary_value, bytes(value_tag, tag) + bytes(value_image, message))));
}

}  // namespace ito::diffusion
