#include "diffusion/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace ito::diffusion {
namespace {

/// The beta at a fraction of the way from the first timestep to the last.
double beta_between(BetaSchedule kind, double start, double end, double fraction) {
    if (kind == BetaSchedule::scaled_linear) {
        const double root = std::sqrt(start) + fraction * (std::sqrt(end) - std::sqrt(start));
        return root * root;
    }
    if (kind == BetaSchedule::sigmoid) fraction = 1 / (1 + std::exp(6 - 12 * fraction));
    return start + fraction * (end - start);
}

std::vector<double> betas_of_range(const NoiseScheduleOptions& options) {
    require(options.beta_start > 0 && options.beta_start < 1,
            "noise schedule: beta_start is {}, expected within (0, 1)", options.beta_start);
    require(options.beta_end >= options.beta_start && options.beta_end < 1,
            "noise schedule: beta_end is {}, expected within [beta_start = {}, 1)", options.beta_end,
            options.beta_start);
    const double last = static_cast<double>(options.timesteps - 1);
    const double scale = options.rescale ? 1000.0 / static_cast<double>(options.timesteps) : 1.0;
    require(scale * options.beta_end < 1,
            "noise schedule: rescaling by 1000 / {} makes the last beta {}, expected below 1: use at least "
            "{} timesteps or no rescaling",
            options.timesteps, scale * options.beta_end, std::floor(1000 * options.beta_end) + 1);
    std::vector<double> betas(static_cast<std::size_t>(options.timesteps));
    for (std::size_t t = 0; t < betas.size(); ++t)
        betas[t] = scale * beta_between(options.kind, options.beta_start, options.beta_end,
                                        static_cast<double>(t) / last);
    return betas;
}

std::vector<double> listed_betas(const NoiseScheduleOptions& options) {
    require(options.betas.size() == static_cast<std::size_t>(options.timesteps),
            "noise schedule: a list of {} betas for {} timesteps, expected one for each",
            options.betas.size(), options.timesteps);
    for (std::size_t t = 0; t < options.betas.size(); ++t)
        require(options.betas[t] > 0 && options.betas[t] < 1,
                "noise schedule: beta {} of the list is {}, expected within (0, 1)", t, options.betas[t]);
    return options.betas;
}

std::vector<double> cosine_betas(const NoiseScheduleOptions& options) {
    const auto f = [](double u) {
        const double cosine = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2);
        return cosine * cosine;
    };
    const double steps = static_cast<double>(options.timesteps);
    std::vector<double> betas(static_cast<std::size_t>(options.timesteps));
    for (std::size_t t = 0; t < betas.size(); ++t) {
        const double i = static_cast<double>(t);
        betas[t] = std::min(1 - f((i + 1) / steps) / f(i / steps), 0.999);
    }
    return betas;
}

std::vector<double> betas_of(const NoiseScheduleOptions& options) {
    require(!options.rescale || options.kind == BetaSchedule::linear,
            "noise schedule: only the betas of the linear schedule can be rescaled");
    switch (options.kind) {
        case BetaSchedule::linear:
        case BetaSchedule::scaled_linear:
        case BetaSchedule::sigmoid:
            return betas_of_range(options);
        case BetaSchedule::cosine:
            return cosine_betas(options);
        case BetaSchedule::listed:
            return listed_betas(options);
    }
    fail("noise schedule: unknown kind {}", static_cast<int>(options.kind));
}

}  // namespace

NoiseSchedule::NoiseSchedule(const NoiseScheduleOptions& options) : options_(options) {
    require(options.timesteps >= 2 && options.timesteps <= most_timesteps,
            "noise schedule: {} timesteps, expected from 2 to {}", options.timesteps, most_timesteps);
    betas_ = betas_of(options);
    alphas_cumprod_.reserve(betas_.size());
    double product = 1;
    for (const double beta : betas_) alphas_cumprod_.push_back(product *= 1 - beta);
    // The estimate of x_0 divides by sqrt(abar); its square must stay a normal number.
    require(product > 1e-300,
            "noise schedule: the signal is gone (abar = {}) by the last of {} timesteps: use smaller betas",
            product, options.timesteps);
}

std::size_t NoiseSchedule::index(std::int64_t t) const {
    require(t >= 0 && t < timesteps(), "noise schedule: timestep {}, expected from 0 to {}", t,
            timesteps() - 1);
    return static_cast<std::size_t>(t);
}

double NoiseSchedule::signal(std::int64_t t) const {
    return std::sqrt(alpha_cumprod(t));
}
double NoiseSchedule::sigma(std::int64_t t) const {
    return std::sqrt(1 - alpha_cumprod(t));
}
double NoiseSchedule::snr(std::int64_t t) const {
    return alpha_cumprod(t) / (1 - alpha_cumprod(t));
}

double NoiseSchedule::posterior_variance(std::int64_t t) const {
    return beta(t) * (1 - alpha_cumprod(t - 1)) / (1 - alpha_cumprod(t));
}

double NoiseSchedule::log_variance_small(std::int64_t t) const {
    return std::log(posterior_variance(t == 0 ? 1 : t));
}

double NoiseSchedule::log_variance_large(std::int64_t t) const {
    return std::log(t == 0 ? posterior_variance(1) : beta(t));
}

double NoiseSchedule::posterior_mean_x0(std::int64_t t) const {
    return beta(t) * std::sqrt(alpha_cumprod(t - 1)) / (1 - alpha_cumprod(t));
}

double NoiseSchedule::posterior_mean_x(std::int64_t t) const {
    return (1 - alpha_cumprod(t - 1)) * std::sqrt(alpha(t)) / (1 - alpha_cumprod(t));
}

double NoiseSchedule::prior_bits_per_dim(double second_moment) const {
    require(second_moment >= 0 && std::isfinite(second_moment),
            "noise schedule: second moment {}, expected a finite number from 0", second_moment);
    const double abar = alpha_cumprod(timesteps() - 1);
    // 1/2 (-1 - log(1 - abar) + (1 - abar) + abar m2); log1p keeps the small difference.
    const double nats = 0.5 * (-std::log1p(-abar) - abar + abar * second_moment);
    return nats / std::numbers::ln2;
}

std::vector<std::int64_t> spaced_timesteps(std::int64_t train_timesteps, std::int64_t count,
                                           TimestepSpacing spacing, std::int64_t steps_offset) {
    require(train_timesteps >= 1, "timesteps: the model has {}, expected at least 1", train_timesteps);
    require(count >= 1 && count <= train_timesteps,
            "timesteps: {} sampling steps, expected from 1 to the model's {}", count, train_timesteps);
    require(steps_offset >= 0, "timesteps: steps_offset is {}, expected at least 0", steps_offset);
    const double total = static_cast<double>(train_timesteps), steps = static_cast<double>(count);
    // Rounded as numpy does in diffusers: halves to even, and trailing's stride is the difference of its first two values.
    const double stride = (total - total / steps) - total;
    const auto timestep = [&](std::int64_t i) -> std::int64_t {
        const double k = static_cast<double>(i);
        if (count == train_timesteps) return count - 1 - i;
        switch (spacing) {
            case TimestepSpacing::leading:
                return (count - 1 - i) * (train_timesteps / count) + steps_offset;
            case TimestepSpacing::linspace:
                if (count == 1) return train_timesteps - 1;
                return static_cast<std::int64_t>(
                    std::nearbyint((steps - 1 - k) * ((total - 1) / (steps - 1))));
            case TimestepSpacing::trailing:
                return static_cast<std::int64_t>(std::nearbyint(total + k * stride)) - 1;
        }
        fail("timesteps: unknown spacing {}", static_cast<int>(spacing));
    };
    std::vector<std::int64_t> timesteps;
    timesteps.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) timesteps.push_back(timestep(i));
    require(
        timesteps.front() < train_timesteps,
        "timesteps: {} leading steps with steps_offset {} begin at {}, and the model's timesteps end at {}; "
        "expected fewer steps, or the spacing linspace or trailing",
        count, steps_offset, timesteps.front(), train_timesteps - 1);
    return timesteps;
}

ReverseProcess::ReverseProcess(const NoiseSchedule& schedule, std::span<const std::int64_t> timesteps,
                               VarianceKind variance)
    : variance_(variance) {
    require(!timesteps.empty(), "reverse process: no timesteps");
    transitions_.reserve(timesteps.size());
    for (std::size_t i = 0; i < timesteps.size(); ++i) {
        ReverseTransition step;
        step.t = timesteps[i];
        const bool last = i + 1 == timesteps.size();
        step.previous = last ? -1 : timesteps[i + 1];
        require(step.t >= 0 && step.t < schedule.timesteps(),
                "reverse process: timestep {}, expected from 0 to {}", step.t, schedule.timesteps() - 1);
        require(last || step.previous < step.t,
                "reverse process: timestep {} after {}, expected decreasing ones", step.previous, step.t);
        require(last || step.previous >= 0, "reverse process: timestep {}, expected from 0 to {}",
                step.previous, schedule.timesteps() - 1);
        const double abar = step.alpha_cumprod = schedule.alpha_cumprod(step.t);
        const double before = step.alpha_cumprod_previous = schedule.alpha_cumprod(step.previous);
        // Between neighbours it is the schedule's own beta, without the rounding of a quotient.
        step.beta = step.previous == step.t - 1 ? schedule.beta(step.t) : 1 - abar / before;
        step.posterior_variance = step.beta * (1 - before) / (1 - abar);
        step.posterior_mean_x0 = step.beta * std::sqrt(before) / (1 - abar);
        step.posterior_mean_x = (1 - before) * std::sqrt(1 - step.beta) / (1 - abar);
        step.predict_x = 1 / std::sqrt(abar);
        step.predict_eps = -std::sqrt(1 / abar - 1);
        transitions_.push_back(step);
    }
}

const ReverseTransition& ReverseProcess::at(std::int64_t i) const {
    require(i >= 0 && i < size(), "reverse process: step {}, expected from 0 to {}", i, size() - 1);
    return transitions_[static_cast<std::size_t>(i)];
}

double ReverseProcess::variance(std::int64_t i) const {
    const ReverseTransition& step = at(i);
    if (step.previous == -1) return 0;
    return variance_ == VarianceKind::beta ? step.beta : step.posterior_variance;
}

kernels::ReverseStepCoefficients ReverseProcess::coefficients(std::int64_t i, double clip) const {
    require(clip >= 0 && std::isfinite(clip),
            "reverse process: clip is {}, expected 0 (none) or a positive bound", clip);
    const ReverseTransition& step = at(i);
    kernels::ReverseStepCoefficients coefficients;
    coefficients.predict_x = step.predict_x;
    coefficients.predict_eps = step.predict_eps;
    coefficients.mean_x0 = step.posterior_mean_x0;
    coefficients.mean_x = step.posterior_mean_x;
    coefficients.sigma = std::sqrt(variance(i));
    coefficients.clip = clip;
    return coefficients;
}

}  // namespace ito::diffusion
