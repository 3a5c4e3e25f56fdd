#pragma once
// Line plots as SVG.

#include <string>
#include <vector>

namespace ito::diffusion {

struct PlotPoint {
    double x = 0, y = 0;
};

/// One curve. The x of its points do not decrease.
struct PlotSeries {
    std::string name = {};  ///< in the legend; with one series there is none
    std::vector<PlotPoint> points = {};
};

struct Plot {
    std::string title = {}, x_label = "step", y_label = {};
    std::vector<PlotSeries> series = {};
    bool smooth = true;  ///< draw a running mean over the points
    enum class Scale {
        by_range,  ///< of y: logarithmic where the values are positive and span more than a factor of five
        from_zero,
    };
    Scale scale = Scale::by_range;
};

/// The mean over a window around each point, about a twentieth of all points wide. It narrows towards both ends, so that
/// the curve begins and ends where the points do. At the beginning it widens slowly: a loss falls fast there, and in a wide
/// window the fall would seem to last longer.
std::vector<PlotPoint> smoothed(const std::vector<PlotPoint>& points);

/// At most `count` points, each the mean of its share: a long training's curve is readable and small.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, std::size_t count);

/// Round numbers in [low, high], about `count` of them (at least one): 1, 2 or 5 times a power of ten apart.
std::vector<double> round_ticks(double low, double high, int count);

/// Text for HTML or SVG, or for an attribute in single quotes.
std::string escaped_markup(const std::string& text);

/// An <svg> element, styled by plot_style, that says in words where its curves begin and end. Empty if no series has two
/// points.
std::string to_svg(const Plot& plot);

/// CSS of these elements, for light and dark pages.
extern const char* const plot_style;

/// The element as a file of its own; empty if to_svg is.
std::string to_svg_file(const Plot& plot);

}  // namespace ito::diffusion
