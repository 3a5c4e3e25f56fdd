#include "diffusion/report/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/io/atomic_file.h"
#include "core/io/input_file.h"
#include "core/io/text_file.h"
#include "diffusion/report/curves.h"

namespace ito::diffusion {
namespace {

namespace fs = std::filesystem;

std::string base64(std::span<const std::byte> bytes) {
    constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t word = 0;
        for (std::size_t k = 0; k < 3; ++k)
            word = word << 8 | (i + k < bytes.size() ? std::to_integer<std::uint32_t>(bytes[i + k]) : 0);
        for (std::size_t k = 0; k < 4; ++k)
            text += i + k > bytes.size() ? '=' : digits[word >> (18 - 6 * k) & 63];
    }
    return text;
}

// Figures are black on white, so on a dark page they have white cards. They are as wide as the screen; a tap, or the space
// bar, makes them larger. In print the page is light and nothing scrolls, so those rules are for screens.
constexpr const char* style =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff;overflow-wrap:anywhere}h1{line-height:1.2;margin-bottom:.5rem}"
    "h2{margin-top:2.5rem;break-after:avoid}"
    ".numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:.75rem;margin:1."
    "25rem 0}"
    ".numbers div{border:1px solid #ddd;border-radius:6px;padding:.5rem .75rem}"
    ".numbers b{display:block;font-size:1.35rem;line-height:1.3}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,360px),1fr));gap:1.5rem}"
    ".charts svg{width:100%;height:auto}figure{margin:0 0 1.5rem}figcaption{color:#555;margin-bottom:.4rem}"
    "figcaption b{color:#222}figure,.charts div{break-inside:avoid}"
    ".card{display:block;width:fit-content;max-width:100%;box-sizing:border-box;padding:8px;background:#fff;"
    "border:1px solid #ddd;border-radius:8px;overflow-x:auto;cursor:zoom-in}"
    ".card:focus-within{outline:2px solid #1f5fa8;outline-offset:2px}"
    ".card input{position:absolute;opacity:0;pointer-events:none}"
    "img{display:block;max-width:100%;height:auto}"
    "@media screen{input:checked+img{max-width:none;width:calc(2*var(--width));image-rendering:pixelated;"
    "cursor:zoom-out}}@media screen and (max-width:900px){input:checked+img{width:var(--width)}}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;font-weight:400;padding:.2rem .75rem .2rem 0;"
    "border-bottom:1px solid #e6e6e6}th{color:#555;width:13rem}"
    "@media(max-width:600px){th{width:9rem}body{margin:1rem auto}}"
    "@media screen and (prefers-color-scheme:dark){body{color:#ddd;background:#161616}"
    ".numbers div{border-color:#444}figcaption,th{color:#aaa}figcaption b{color:#ddd}th,td{border-color:#333}"
    ".card{border-color:#fff}.card:focus-within{outline-color:#6db3f2}}"
    "@media print{body{margin:0;max-width:none}.charts{grid-template-columns:1fr 1fr}}";

/// Width and height from a PNG's header; nothing for other files.
std::optional<std::pair<std::uint32_t, std::uint32_t>> png_size(std::span<const std::byte> bytes) {
    if (bytes.size() < 24 || std::to_integer<int>(bytes[0]) != 0x89) return {};
    const auto word = [&](std::size_t at) {
        std::uint32_t value = 0;
        for (std::size_t i = at; i < at + 4; ++i)
            value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
        return value;
    };
    return std::pair{word(16), word(20)};
}

/// The texts of a picture; `seen` describes it to those who cannot see it.
struct Words {
    const char* title;
    std::string caption;
    const char* seen;
};

/// The picture with its caption. Empty if there is no such file.
std::string picture(const fs::path& file, const Words& words) {
    if (!fs::exists(file)) return {};
    const FileContent content(file);
    const auto size = png_size(content.bytes());
    return fmt::format(
        "<figure><figcaption><b>{0}.</b> {1}</figcaption>"
        "<label class='card'><input type='checkbox' aria-label='{0}, larger'>"
        "<img alt='{2}' src='data:image/png;base64,{3}'{4}></label></figure>\n",
        words.title, words.caption, words.seen, base64(content.bytes()),
        size ? fmt::format(" width='{0}' height='{1}' style='--width:{0}px'", size->first, size->second)
             : std::string());
}

std::string table(const ReportRows& rows) {
    std::string html = "<table>";
    for (const auto& [name, value] : rows)
        html += fmt::format("<tr><th scope='row'>{}</th><td>{}</td></tr>\n", escaped_markup(name),
                            escaped_markup(value));
    return html + "</table>\n";
}

/// The options under their names on the command line.
ReportRows options_of(const nlohmann::ordered_json& config) {
    ReportRows rows;
    for (const auto& [field, value] : config.items()) {
        std::string name = field;
        std::replace(name.begin(), name.end(), '_', '-');
        rows.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
    }
    return rows;
}

/// 0 if the configuration does not say.
double number_of(const nlohmann::ordered_json& config, const char* key) {
    return config.contains(key) && config[key].is_number() ? config[key].get<double>() : 0.0;
}

std::string number(const std::string& name, const std::string& value) {
    return fmt::format("<div><b>{}</b>{}</div>", value, name);
}

std::string duration_text(double seconds) {
    if (seconds < 120) return fmt::format("{:.{}f} seconds", seconds, seconds < 10 ? 1 : 0);
    if (seconds < 120 * 60) return fmt::format("{:.1f} minutes", seconds / 60);
    if (seconds < 72 * 3600) return fmt::format("{:.1f} hours", seconds / 3600);
    return fmt::format("{:.1f} days", seconds / 86400);
}

/// The numbers at the top of the page. `per_step`: images of a step.
std::string key_numbers(const std::vector<MetricsLine>& lines, double per_step, double wanted_steps) {
    const double steps = lines.empty() ? 0.0 : static_cast<double>(lines.back().step);
    std::string html = number(wanted_steps > steps ? fmt::format("of {:.0f} steps", wanted_steps) : "steps",
                              fmt::format("{:.0f}", steps));
    if (const auto loss = curve(lines, &MetricsLine::loss); !loss.empty()) {
        // The mean of the last twentieth, at least three lines: one line says little.
        const std::size_t count = std::min(loss.size(), std::max<std::size_t>(3, loss.size() / 20));
        double sum = 0;
        for (std::size_t i = loss.size() - count; i < loss.size(); ++i) sum += loss[i].y;
        html += number("loss at the end", fmt::format("{:.4f}", sum / static_cast<double>(count)));
    }
    std::vector<double> speeds;
    for (const auto& point : curve(lines, &MetricsLine::images_per_second)) speeds.push_back(point.y);
    if (!speeds.empty()) {
        std::nth_element(speeds.begin(), speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2),
                         speeds.end());
        const double speed = speeds[speeds.size() / 2];
        html += number("images per second, median", fmt::format("{:.{}f}", speed, speed < 100 ? 1 : 0));
        if (per_step > 0 && speed > 0)
            html += number("per step, median", fmt::format("{:.0f} ms", 1000 * per_step / speed));
    }
    const auto seconds = curve(lines, &MetricsLine::seconds);
    return html + number("of training", duration_text(seconds.empty() ? 0 : seconds.back().y));
}

std::string charts(const std::vector<MetricsLine>& lines, double per_step) {
    const auto series = [&](const auto& field) { return std::vector<PlotSeries>{{"", curve(lines, field)}}; };
    const auto step_time = [&](const MetricsLine& line) -> std::optional<double> {
        const double speed = line.images_per_second.value_or(0);
        if (speed > 0 && per_step > 0) return 1000 * per_step / speed;
        return {};
    };
    const Plot plots[] = {
        loss_plot(lines),
        timestep_loss_plot(lines),
        {.title = "Gradient norm before clipping", .series = series(&MetricsLine::grad_norm)},
        {.title = "Learning rate",
         .series = series(&MetricsLine::lr),
         .smooth = false,
         .scale = Plot::Scale::from_zero},
        {.title = "Images per second",
         .series = series(&MetricsLine::images_per_second),
         .scale = Plot::Scale::from_zero},
        {.title = "Time per step", .y_label = "ms", .series = series(step_time)}};
    std::string html;
    for (const Plot& plot : plots)
        if (const std::string svg = to_svg(plot); !svg.empty()) html += fmt::format("<div>{}</div>\n", svg);
    if (html.empty()) return "<p>The training was too short for curves.</p>\n";
    return fmt::format(
        "<p>One point is the mean over ten steps, or over more where there are many; the strong line is a "
        "running mean; where an axis says log, equal distances are equal factors. Small t is little "
        "noise.</p><div "
        "class='charts'>\n{}</div>\n",
        html);
}

std::string pictures(const Run& run) {
    std::string html =
        picture(run.figures() / "comparison.png",
                {"Real and generated",
                 "Images of the data set at the left, images that the network made at the right.",
                 "Two grids of images: real ones at the left, generated ones at the right"}) +
        picture(
            run.figures() / "progressive.png",
            {"The reverse process",
             "From noise to image: the state x<sub>t</sub>, and below it x&#770;<sub>0</sub>, the estimate "
             "of x<sub>0</sub> that the network makes of it.",
             "For each of a few samples a row of states that begins with noise and ends with an image, and "
             "below it a row of estimates of the image, blurred at first"}) +
        picture(run.figures() / "forward.png",
                {"The forward process",
                 "Real images x<sub>0</sub> and what noise makes of them up to timestep t.",
                 "A few real images, each followed by itself with more and more noise"});
    std::vector<fs::path> grids;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(run.samples(), error))
        if (entry.path().extension() == ".png" && entry.path().filename().string().starts_with("step-"))
            grids.push_back(entry.path());
    if (!grids.empty()) {
        const fs::path last = *std::max_element(grids.begin(), grids.end());
        html += picture(
            last, {"Samples", escaped_markup(last.filename().string()) + ", always from the same noise.",
                   "A grid of generated images"});
    }
    return html;
}

}  // namespace

void write_report(const Run& run, const ReportRows& machine) {
    const std::vector<MetricsLine> lines = read_metrics(run.metrics());
    const auto config = nlohmann::ordered_json::parse(read_text(run.config()), nullptr, false);
    require(config.is_object(), "{}: not a JSON object", run.config().string());
    const double per_step = number_of(config, "batch") * number_of(config, "grad_accum");
    std::error_code no_folder;  // set if the current folder is gone; then the path is shown as it is
    const fs::path root = fs::absolute(run.root(), no_folder);
    const std::string name =
        escaped_markup((no_folder ? run.root() : root).lexically_normal().filename().string());
    std::string html = fmt::format(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        "<title>{0}</title><style>{1}{2}</style></head>\n<body><h1>{0}</h1><div class='numbers'>{3}</div>\n",
        name, style, plot_style, key_numbers(lines, per_step, number_of(config, "steps")));
    if (const std::string shown = pictures(run); !shown.empty()) html += "<h2>Figures</h2>\n" + shown;
    html += "<h2>Training</h2>\n" + charts(lines, per_step);
    html += "<h2>Configuration</h2>\n" + table(options_of(config));
    if (!machine.empty()) html += "<h2>Machine</h2>\n" + table(machine);
    write_file_atomically(run.report(), html + "</body></html>\n");
}

}  // namespace ito::diffusion
