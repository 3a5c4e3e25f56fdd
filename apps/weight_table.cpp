#include "apps/weight_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/terminal.h"
#include "core/error.h"

namespace ito::apps {

WeightStatistics statistics_of(const nn::NamedTensor& named) {
    WeightStatistics result{.name = named.name, .shape = named.tensor.shape()};
    const auto values = named.tensor.to_vector<float>();
    double sum = 0, squares = 0;
    std::size_t finite = 0, zeros = 0;
    result.min = std::numeric_limits<double>::infinity();
    result.max = -result.min;
    for (const double value : values) {
        if (std::isnan(value)) {
            ++result.nan;
        } else if (std::isinf(value)) {
            ++result.infinite;
        } else {
            ++finite;
            zeros += value == 0;
            sum += value;
            squares += value * value;
            result.min = std::min(result.min, value);
            result.max = std::max(result.max, value);
        }
    }
    if (finite == 0) {
        result.min = result.max = std::numeric_limits<double>::quiet_NaN();
    } else {
        result.mean = sum / static_cast<double>(finite);
        double deviations = 0;  // in a second pass: a difference of large sums would cancel
        for (const double value : values)
            if (std::isfinite(value)) deviations += (value - result.mean) * (value - result.mean);
        result.std = std::sqrt(deviations / static_cast<double>(finite));
        result.norm = std::sqrt(squares);
        result.zeros = static_cast<double>(zeros) / static_cast<double>(values.size());
    }
    if (named.name.ends_with("weight") && !result.shape.empty() && result.shape.front() > 0) {
        const auto channel = static_cast<std::ptrdiff_t>(values.size()) / result.shape.front();
        for (auto begin = values.begin(); begin != values.end(); begin += channel)
            result.dead_channels +=
                std::all_of(begin, begin + channel, [](float value) { return value == 0; });
    }
    return result;
}

WeightTable::WeightTable(const std::vector<nn::NamedTensor>& tensors) {
    for (const auto& tensor : tensors) tensors_.push_back(statistics_of(tensor));
}

std::vector<std::string> WeightTable::warnings() const {
    std::vector<std::string> lines;
    for (const auto& t : tensors_) {
        if (t.nan + t.infinite > 0)
            lines.push_back(fmt::format("{}: {} NaN, {} infinite", t.name, t.nan, t.infinite));
        if (t.dead_channels > 0)
            lines.push_back(fmt::format("{}: {} of {} output channels are all zero", t.name, t.dead_channels,
                                        t.shape.front()));
    }
    return lines;
}

std::string WeightTable::first_not_finite() const {
    for (const WeightStatistics& tensor : tensors_)
        if (tensor.nan + tensor.infinite > 0) return tensor.name;
    return {};
}

std::int64_t WeightTable::not_finite() const {
    std::int64_t count = 0;
    for (const auto& t : tensors_) count += t.nan + t.infinite;
    return count;
}

std::string WeightTable::to_text() const {
    constexpr const char* form = "  {:<20} {:<12} {:>9} {:>8} {:>9} {:>8} {:>8} {:>6} {:>5} {:>4}\n";
    std::string text =
        fmt::format(form, "tensor", "shape", "mean", "std", "min", "max", "norm", "zeros", "NaN", "inf");
    std::string block;
    for (const auto& t : tensors_) {
        // "a.b.conv1.weight" stands as "conv1.weight" below its block "a.b".
        std::size_t cut = t.name.rfind('.', t.name.rfind('.') - 1);
        if (cut != std::string::npos && t.name.compare(cut + 1, 2, "0.") == 0)
            cut = t.name.rfind('.', cut - 1);  // to_out.0
        const std::string in = cut == std::string::npos ? "" : t.name.substr(0, cut);
        if (in != std::exchange(block, in) && !in.empty()) text += in + "\n";
        text += fmt::format(form, in.empty() ? t.name : t.name.substr(cut + 1),
                            fmt::format("{}", fmt::join(t.shape, "x")), fmt::format("{:.2g}", t.mean),
                            fmt::format("{:.2g}", t.std), fmt::format("{:.2g}", t.min),
                            fmt::format("{:.2g}", t.max), fmt::format("{:.3g}", t.norm),
                            fmt::format("{:.1f}%", 100 * t.zeros), t.nan, t.infinite);
    }
    return text;
}

nlohmann::ordered_json WeightTable::to_json() const {
    auto json = nlohmann::ordered_json::array();
    for (const auto& t : tensors_) {
        json.push_back({{"name", t.name},
                        {"shape", t.shape},
                        {"mean", t.mean},
                        {"std", t.std},
                        {"min", t.min},  // NaN, where nothing is finite, is null in JSON
                        {"max", t.max},
                        {"norm", t.norm},
                        {"zeros", t.zeros},
                        {"nan", t.nan},
                        {"infinite", t.infinite},
                        {"dead_channels", t.dead_channels}});
    }
    return json;
}

void require_finite(const std::vector<nn::NamedTensor>& weights, const std::string& run,
                    const std::string& options) {
    const WeightTable table(weights);
    require(table.not_finite() == 0, "{}: {} of its weights are NaN or infinite, the first in {}{}", run,
            table.not_finite(), table.first_not_finite(),
            options.empty()
                ? ""
                : fmt::format("; {} inspect {} {} shows which", program(), shell_word(run), options));
}

std::string inspect_options(bool raw, const std::string& variant) {
    return std::string(raw ? "--weights --raw" : "--weights") +
           (variant.empty() ? "" : " --variant " + shell_word(variant));
}

}  // namespace ito::apps
