#include "diffusion/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ito::diffusion {
namespace {

constexpr double width = 460, height = 260, left = 56, right = 16, bottom = 38;
constexpr double title_height = 28, legend_height = 18;
constexpr std::size_t most_points = 300;

struct Range {
    double low = 0, high = 0;
};

/// How x or y map to the picture.
struct Axis {
    Range values;
    double first = 0, last = 0;  // places of low and high in the picture
    bool logarithmic = false;

    double scaled(double v) const { return logarithmic ? std::log10(v) : v; }
    double place(double v) const {
        const double low = scaled(values.low), high = scaled(values.high);
        return first + (scaled(v) - low) / (high - low) * (last - first);
    }
};

/// 0.005, 20, 20k, 1.5M: short, and without rounding a tick away.
std::string tick_text(double value) {
    const double size = std::abs(value);
    if (size >= 1e6) return fmt::format("{:g}M", value / 1e6);
    if (size >= 1e4) return fmt::format("{:g}k", value / 1e3);
    return fmt::format("{:g}", value);
}

std::vector<double> logarithmic_ticks(const Range& range) {
    std::vector<double> ticks;
    const double first = std::floor(std::log10(range.low)), last = std::ceil(std::log10(range.high));
    // With many decades only powers of ten; with very many, every second one, third one, ...
    const bool few = last - first <= 4;
    const double every = std::max(1.0, std::floor((last - first) / 5));
    for (double power = first; power <= last; power += few ? 1 : every)
        for (const double digit : {1.0, 2.0, 5.0}) {
            if (digit > 1 && !few) continue;
            const double tick = digit * std::pow(10, power);
            if (tick >= range.low * (1 - 1e-9) && tick <= range.high * (1 + 1e-9)) ticks.push_back(tick);
        }
    return ticks;
}

Axis y_axis(const std::vector<std::vector<PlotPoint>>& curves, Plot::Scale scale, double top) {
    Axis axis{{HUGE_VAL, -HUGE_VAL}, height - bottom, top, false};
    auto& [low, high] = axis.values;
    for (const auto& curve : curves)
        for (const auto& point : curve) low = std::min(low, point.y), high = std::max(high, point.y);
    if (scale == Plot::Scale::from_zero) low = std::min(low, 0.0), high = std::max(high, 0.0);
    axis.logarithmic = scale == Plot::Scale::by_range && low > 0 && high > 5 * low;
    if (axis.logarithmic) return axis;
    // A little room, and a range for constants.
    const double room = high > low ? 0.04 * (high - low) : std::max(std::abs(high) * 0.1, 1e-12);
    if (low != 0) low = low > 0 && low - room < 0 ? 0 : low - room;
    high += room;
    return axis;
}

std::string polyline(const std::string& classes, const std::vector<PlotPoint>& points, const Axis& x,
                     const Axis& y) {
    std::string line = fmt::format("<polyline class='{}' points='", classes);
    for (const auto& point : points)
        line += fmt::format("{:.1f},{:.1f} ", x.place(point.x), y.place(point.y));
    return line + "'/>";
}

std::string axes(const Plot& plot, const Axis& x, const Axis& y) {
    std::string svg;
    const auto y_ticks =
        y.logarithmic ? logarithmic_ticks(y.values) : round_ticks(y.values.low, y.values.high, 5);
    for (const double tick : y_ticks)
        svg += fmt::format(
            "<line class='grid' x1='{0}' x2='{1}' y1='{2:.1f}' y2='{2:.1f}'/>"
            "<text x='{3}' y='{4:.1f}' text-anchor='end'>{5}</text>",
            left, width - right, y.place(tick), left - 6, y.place(tick) + 4, tick_text(tick));
    for (const double tick : round_ticks(x.values.low, x.values.high, 5))
        svg += fmt::format(
            "<line class='axis' x1='{0:.1f}' x2='{0:.1f}' y1='{1}' y2='{2}'/>"
            "<text x='{0:.1f}' y='{3}' text-anchor='middle'>{4}</text>",
            x.place(tick), height - bottom, height - bottom + 4, height - bottom + 16, tick_text(tick));
    svg += fmt::format("<line class='axis' x1='{}' x2='{}' y1='{}' y2='{}'/>", left, width - right,
                       height - bottom, height - bottom);
    svg += fmt::format("<text x='{}' y='{}' text-anchor='middle'>{}</text>", (left + width - right) / 2,
                       height - 6, escaped_markup(plot.x_label));
    std::string y_label = escaped_markup(plot.y_label);
    if (y.logarithmic) y_label = y_label.empty() ? "log" : fmt::format("{}, log", y_label);
    if (!y_label.empty())
        svg +=
            fmt::format("<text x='12' y='{0}' text-anchor='middle' transform='rotate(-90 12 {0})'>{1}</text>",
                        (y.last + y.first) / 2, y_label);
    return svg;
}

/// "Loss. From 1.2 at step 10 to 0.04 at step 500."
std::string in_words(const Plot& plot, const std::vector<std::string>& names,
                     const std::vector<std::vector<PlotPoint>>& curves) {
    std::string text = plot.title + ".";
    for (std::size_t i = 0; i < curves.size(); ++i) {
        const PlotPoint &first = curves[i].front(), &last = curves[i].back();
        text += fmt::format(" {}rom {:.3g} at {} {:.0f} to {:.3g} at {} {:.0f}.",
                            names[i].empty() ? "F" : names[i] + ": f", first.y, plot.x_label, first.x, last.y,
                            plot.x_label, last.x);
    }
    return text;
}

}  // namespace

const char* const plot_style =
    ".plot{--ink:#555;--grid:#e3e3e3;--s0:#1f5fa8;--s1:#b4540a;--s2:#2c7a3f;--s3:#8b3a9e}"
    ".plot text{font:13px system-ui,sans-serif;fill:var(--ink)}"
    ".plot .title{font-size:15px;font-weight:600}"
    ".plot .grid{stroke:var(--grid)}.plot .axis{stroke:var(--ink)}"
    ".plot polyline{fill:none;stroke-width:1.7;stroke-linejoin:round}.plot .raw{opacity:.3;stroke-width:1}"
    ".plot .s0{stroke:var(--s0)}.plot .s1{stroke:var(--s1)}.plot .s2{stroke:var(--s2)}.plot "
    ".s3{stroke:var(--s3)}"
    "@media screen and (prefers-color-scheme:dark){"
    ".plot{--ink:#b5b5b5;--grid:#363636;--s0:#6db3f2;--s1:#f0a35e;--s2:#7ccf8f;--s3:#d79be6}}";

std::string escaped_markup(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '<')
            out += "&lt;";
        else if (c == '>')
            out += "&gt;";
        else if (c == '&')
            out += "&amp;";
        else if (c == '\'')
            out += "&#39;";
        else
            out += c;
    }
    return out;
}

std::vector<PlotPoint> smoothed(const std::vector<PlotPoint>& points) {
    std::vector<double> sums{0};
    for (const auto& point : points) sums.push_back(sums.back() + point.y);
    const std::size_t half = points.size() / 40;
    std::vector<PlotPoint> out;
    for (std::size_t i = 0; i < points.size(); ++i) {
        const std::size_t reach = std::min({half, i / 4, points.size() - 1 - i});
        out.push_back(
            {points[i].x, (sums[i + reach + 1] - sums[i - reach]) / static_cast<double>(2 * reach + 1)});
    }
    return out;
}

std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, std::size_t count) {
    if (points.size() <= count) return points;
    std::vector<PlotPoint> out;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t begin = points.size() * i / count, end = points.size() * (i + 1) / count;
        PlotPoint mean;
        for (std::size_t k = begin; k < end; ++k) {
            mean.x += points[k].x / static_cast<double>(end - begin);
            mean.y += points[k].y / static_cast<double>(end - begin);
        }
        out.push_back(mean);
    }
    return out;
}

std::vector<double> round_ticks(double low, double high, int count) {
    const double rough = (high - low) / count;
    if (!(rough > 0) || !std::isfinite(rough)) return {low};
    const double power = std::pow(10, std::floor(std::log10(rough)));
    double step = 10 * power;
    for (const double digit : {5.0, 2.0, 1.0})
        if (digit * power >= rough * (1 - 1e-9)) step = digit * power;
    std::vector<double> ticks;
    // Counted by i: adding a step to a large number may not change it.
    const double first = std::ceil(low / step - 1e-9);
    for (int i = 0; i <= 4 * count && (first + i) * step <= high + 1e-9 * step; ++i)
        ticks.push_back((first + i) * step + 0.0);  // no negative zero
    if (ticks.empty()) ticks.push_back(low);
    return ticks;
}

std::string to_svg(const Plot& plot) {
    std::vector<std::vector<PlotPoint>> measured, means;
    std::vector<std::string> names;
    Range steps{HUGE_VAL, -HUGE_VAL};
    for (const auto& [name, all] : plot.series) {
        std::vector<PlotPoint> finite;
        std::copy_if(all.begin(), all.end(), std::back_inserter(finite),
                     [](const PlotPoint& p) { return std::isfinite(p.x) && std::isfinite(p.y); });
        if (finite.size() < 2) continue;
        steps = {std::min(steps.low, finite.front().x), std::max(steps.high, finite.back().x)};
        names.push_back(name);
        means.push_back(thinned(plot.smooth ? smoothed(finite) : finite, most_points));
        measured.push_back(thinned(finite, most_points));
    }
    if (names.empty() || !(steps.high > steps.low)) return {};
    // Several curves in one plot would drown in their own noise: only their means are drawn.
    const bool raw = plot.smooth && names.size() == 1;
    const Axis x{steps, left, width - right, false},
        y = y_axis(raw ? measured : means, plot.scale, title_height + (names.size() > 1 ? legend_height : 0));
    std::string svg = fmt::format("<svg class='plot' viewBox='0 0 {} {}' role='img' aria-label='{}'>", width,
                                  height, escaped_markup(in_words(plot, names, means)));
    svg += fmt::format("<text class='title' x='{}' y='16'>{}</text>", left, escaped_markup(plot.title));
    svg += axes(plot, x, y);
    double legend = left;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (raw) svg += polyline(fmt::format("raw s{}", i % 4), measured[i], x, y);
        svg += polyline(fmt::format("s{}", i % 4), means[i], x, y);
        if (names.size() < 2) continue;
        const double line = title_height + legend_height / 2 - 1;
        svg += fmt::format(
            "<polyline class='s{0}' points='{1:.1f},{2} {3:.1f},{2}'/>"
            "<text x='{4:.1f}' y='{5}'>{6}</text>",
            i % 4, legend, line, legend + 14, legend + 18, line + 4, escaped_markup(names[i]));
        legend += (width - left - right) / static_cast<double>(names.size());
    }
    return svg + "</svg>";
}

std::string to_svg_file(const Plot& plot) {
    std::string svg = to_svg(plot);
    if (svg.empty()) return svg;
    constexpr std::string_view element = "<svg ";
    const auto content = svg.find('>') + 1;
    svg.insert(content, fmt::format("<style>{}.plot{{background:#fff}}@media screen and "
                                    "(prefers-color-scheme:dark){{.plot{{background:#161616}}}}</style>",
                                    plot_style));
    return svg.replace(0, element.size(),
                       fmt::format("<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{}' ",
                                   2 * width, 2 * height)) +
           "\n";
}

}  // namespace ito::diffusion
