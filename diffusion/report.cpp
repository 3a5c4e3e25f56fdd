#include "diffusion/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/atomic_file.h"
#include "core/mapped_file.h"

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

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '<')
            out += "&lt;";
        else if (c == '>')
            out += "&gt;";
        else if (c == '&')
            out += "&amp;";
        else
            out += c;
    }
    return out;
}

struct Point {
    double step, value;
};

/// At most `count` points, each the mean of its share: a long training's curve is readable and small.
std::vector<Point> thinned(const std::vector<Point>& points, std::size_t count) {
    if (points.size() <= count) return points;
    std::vector<Point> out;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t begin = points.size() * i / count, end = points.size() * (i + 1) / count;
        Point mean{0, 0};
        for (std::size_t k = begin; k < end; ++k) {
            mean.step += points[k].step / static_cast<double>(end - begin);
            mean.value += points[k].value / static_cast<double>(end - begin);
        }
        out.push_back(mean);
    }
    return out;
}

/// One curve with its own axes. Logarithmic if the values are positive and span more than a factor of ten.
std::string chart(const std::string& title, const std::vector<Point>& all) {
    const auto points = thinned(all, 600);
    if (points.size() < 2) return {};
    constexpr double width = 640, height = 220, left = 64, right = 12, top = 12, bottom = 28;
    const auto [low, high] = std::minmax_element(
        points.begin(), points.end(), [](const Point& a, const Point& b) { return a.value < b.value; });
    const bool logarithmic = low->value > 0 && high->value > 10 * low->value;
    const auto scale = [&](double v) { return logarithmic ? std::log(v) : v; };
    const double y0 = scale(low->value), y1 = std::max(scale(high->value), y0 + 1e-12);
    const double x0 = points.front().step, x1 = std::max(points.back().step, x0 + 1);
    const auto x_of = [&](double step) { return left + (step - x0) / (x1 - x0) * (width - left - right); };
    const auto y_of = [&](double v) { return top + (y1 - scale(v)) / (y1 - y0) * (height - top - bottom); };
    std::string svg =
        fmt::format("<figure><figcaption>{}</figcaption><svg viewBox='0 0 {} {}' role='img' aria-label='{}'>",
                    title, width, height, title);
    for (int i = 0; i <= 4; ++i) {
        const double y = y0 + (y1 - y0) * i / 4, value = logarithmic ? std::exp(y) : y;
        svg += fmt::format(
            "<line class='grid' x1='{0}' x2='{1}' y1='{2:.1f}' y2='{2:.1f}'/>"
            "<text x='{3}' y='{4:.1f}' text-anchor='end'>{5:.3g}</text>",
            left, width - right, y_of(value), left - 6, y_of(value) + 4, value);
    }
    svg += fmt::format(
        "<text x='{}' y='{}'>step {:.0f}</text><text x='{}' y='{}' text-anchor='end'>{:.0f}</text>", left,
        height - 8, x0, width - right, height - 8, x1);
    svg += "<polyline points='";
    for (const auto& point : points)
        svg += fmt::format("{:.1f},{:.1f} ", x_of(point.step), y_of(point.value));
    return svg + "'/></svg></figure>\n";
}

constexpr const char* style =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 "
    "1rem;color:#222;background:#fff}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:1rem}"
    "figure{margin:0}figcaption{font-weight:600}svg{width:100%;height:auto}svg text{font-size:12px;fill:#666}"
    ".grid{stroke:#e4e4e4}polyline{fill:none;stroke:#2563a8;stroke-width:1.5}"
    "img{max-width:100%;image-rendering:pixelated}pre{overflow-x:auto;background:#f5f5f5;padding:1rem}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}svg "
    "text{fill:#aaa}.grid{stroke:#333}"
    "polyline{stroke:#6db3f2}pre{background:#222}}";

}  // namespace

void write_report(const Run& run) {
    struct Curve {
        const char *key, *title;
        std::vector<Point> points;
    };
    Curve curves[] = {{"loss", "Loss", {}},
                      {"grad_norm", "Gradient norm before clipping", {}},
                      {"lr", "Learning rate", {}},
                      {"images_per_second", "Images per second", {}}};
    double last_step = 0, seconds = 0;
    std::istringstream lines(fs::exists(run.metrics()) ? read_text(run.metrics()) : "");
    for (std::string line; std::getline(lines, line);) {
        const auto json = nlohmann::json::parse(line, nullptr, false);
        if (!json.is_object() || !json.contains("step") || !json["step"].is_number()) continue;
        last_step = json["step"].get<double>();
        if (json.contains("seconds") && json["seconds"].is_number()) seconds = json["seconds"].get<double>();
        for (auto& [key, title, points] : curves)
            if (json.contains(key) && json[key].is_number())
                points.push_back({last_step, json[key].get<double>()});
    }
    std::vector<fs::path> pictures;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(run.samples(), error))
        if (entry.path().extension() == ".png") pictures.push_back(entry.path());
    std::sort(pictures.begin(), pictures.end());

    const std::string name = escaped(fs::absolute(run.root()).lexically_normal().filename().string());
    std::string html = fmt::format(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, "
        "initial-scale=1'><title>{0}</title><style>{1}</style></head>\n"
        "<body><h1>{0}</h1><p>{2:.0f} steps in {3:.1f} minutes.</p>\n",
        name, style, last_step, seconds / 60);
    if (!pictures.empty()) {
        const MappedFile picture(pictures.back());
        html += fmt::format(
            "<h2>Samples</h2><p>{}, always from the same noise.</p>"
            "<img alt='a grid of generated images' src='data:image/png;base64,{}'>\n",
            escaped(pictures.back().filename().string()), base64(picture.bytes()));
    }
    html += "<h2>Training</h2><div class='charts'>\n";
    for (const auto& curve : curves) html += chart(curve.title, curve.points);
    html +=
        fmt::format("</div><h2>Options</h2><pre>{}</pre></body></html>\n", escaped(read_text(run.config())));
    write_file_atomically(run.root() / "report.html", html);
}

}  // namespace ito::diffusion
