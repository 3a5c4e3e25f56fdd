#pragma once
// The noise schedule of a diffusion model and the coefficients that follow from it, in float64.
//
//   q(x_t | x_0)          = N(sqrt(abar_t) x_0, (1 - abar_t) I)                    Ho et al. 2020, eq. 4
//   q(x_{t-1} | x_t, x_0) = N(mean_x0 x_0 + mean_x x_t, posterior_variance I)      eq. 6, 7
//
// Timesteps count from 0: t = 0 is one noising step, t = T - 1 the last. abar_{-1} = 1 stands for the data.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/reverse_step/reverse_step.h"

namespace ito::diffusion {

enum class BetaSchedule {
    linear,         ///< beta from beta_start to beta_end (Ho et al. 2020)
    scaled_linear,  ///< sqrt(beta) from sqrt(beta_start) to sqrt(beta_end) (Rombach et al. 2022)
    sigmoid,        ///< beta_start + (beta_end - beta_start) sigmoid(u), u from -6 to 6 (Xu et al. 2022)
    cosine,         ///< abar ~ cos^2, beta capped at 0.999 (Nichol & Dhariwal 2021, eq. 17)
    listed,         ///< NoiseScheduleOptions::betas
};

/// Which schedule, and how long.
struct NoiseScheduleOptions {
    std::int64_t timesteps = 1000;
    BetaSchedule kind = BetaSchedule::linear;
    double beta_start = 1e-4, beta_end = 0.02;  ///< of linear, scaled_linear and sigmoid
    std::vector<double> betas = {};             ///< of listed: one per timestep
    /// Scale the linear betas by 1000 / T, so that a chain of any length ends about as close to pure noise as
    /// the one of 1000 steps. Without it T = 500 ends at abar = 6.35e-3 instead of 4.04e-5.
    bool rescale = false;

    bool operator==(const NoiseScheduleOptions&) const = default;
};

/// The tables of a noise schedule, and the forward and posterior coefficients that follow from them.
class NoiseSchedule {
  public:
    static constexpr std::int64_t most_timesteps = 100'000;

    /// Throws ito::Error naming the value unless 2 <= T <= 100000 and every beta is within (0, 1).
    explicit NoiseSchedule(const NoiseScheduleOptions& options = {});

    const NoiseScheduleOptions& options() const { return options_; }
    std::int64_t timesteps() const { return options_.timesteps; }

    /// The tables, one value per timestep.
    std::span<const double> betas() const { return betas_; }
    std::span<const double> alphas_cumprod() const { return alphas_cumprod_; }

    double beta(std::int64_t t) const { return betas_[index(t)]; }
    double alpha(std::int64_t t) const { return 1 - beta(t); }
    /// abar_t; 1 at t = -1.
    double alpha_cumprod(std::int64_t t) const { return t == -1 ? 1.0 : alphas_cumprod_[index(t)]; }
    double signal(std::int64_t t) const;  ///< sqrt(abar_t)
    double sigma(std::int64_t t) const;   ///< sqrt(1 - abar_t)
    double snr(std::int64_t t) const;     ///< abar_t / (1 - abar_t)

    double posterior_variance(std::int64_t t) const;  ///< 0 at t = 0
    /// Log of the posterior variance; at t = 0, where that is log 0, the value of t = 1.
    double log_variance_small(std::int64_t t) const;
    /// log beta_t; at t = 0 the posterior's of t = 1, because beta_0 would spoil the likelihood of the data.
    double log_variance_large(std::int64_t t) const;
    double posterior_mean_x0(std::int64_t t) const;
    double posterior_mean_x(std::int64_t t) const;

    /// L_T, the part of the likelihood bound that training cannot reduce: KL(q(x_{T-1} | x_0) || N(0, I)) in
    /// bits per dimension, for data in [-1, 1] whose mean square is `second_moment`. It should be far below
    /// 0.01.
    double prior_bits_per_dim(double second_moment) const;

  private:
    std::size_t index(std::int64_t t) const;

    NoiseScheduleOptions options_;
    std::vector<double> betas_, alphas_cumprod_;
};

// ---- Sampling with fewer steps than the model was trained with ----

/// Which N of the T timesteps are visited; for N = 10, T = 1000:
enum class TimestepSpacing {
    leading,   ///< 900, 800 .. 0: never sees the noisiest timesteps. diffusers' default
    linspace,  ///< 999, 888 .. 0: both ends. The default: a chain from N(0, I) must start at T - 1
    trailing,  ///< 999, 899 .. 99: starts at T - 1 too, and predicts x_0 in one go from the last
};

/// The timesteps in the order of sampling, strictly decreasing: diffusers' lists. `steps_offset` is added under `leading` only,
/// and only if N < T: with N = T every spacing gives all timesteps. Two differences: linspace with N = 1 gives T - 1 (diffusers: 0,
/// as numpy.linspace does), and trailing has no -1 at its end (diffusers has for some N, by rounding). Throws unless
/// 1 <= N <= T and all timesteps are below T.
std::vector<std::int64_t> spaced_timesteps(std::int64_t train_timesteps, std::int64_t count,
                                           TimestepSpacing spacing = TimestepSpacing::linspace,
                                           std::int64_t steps_offset = 0);

/// One step of the reverse process, from x_t to x_previous. beta, the posterior and its mean are those of the
/// respaced chain: beta' = 1 - abar_t / abar_previous, where `previous` is the next timestep of the list.
struct ReverseTransition {
    std::int64_t t = 0;
    std::int64_t previous = -1;  ///< -1: the result is x_0
    double alpha_cumprod = 1, alpha_cumprod_previous = 1;
    double beta = 0;
    double posterior_variance = 0;  ///< 0 in the last step
    double posterior_mean_x0 = 0, posterior_mean_x = 1;
    double predict_x = 1, predict_eps = 0;  ///< x_0 = predict_x x_t + predict_eps eps (eq. 15)
};

/// The variance of the ancestral step.
enum class VarianceKind {
    posterior,  ///< "fixed_small": the posterior's
    /// "fixed_large": beta_t of the respaced chain. A fair upper bound for small steps; in a short chain the samples stay
    /// noisy (CIFAR-10 FID at 10, 20, 50, 100, 1000 steps: 367, 133, 33, 10, 3; Song et al. 2021, table 1).
    beta,
};

/// The list of transitions of a sampling run.
class ReverseProcess {
  public:
    /// `timesteps` strictly decreasing within [0, T); throws ito::Error otherwise.
    ReverseProcess(const NoiseSchedule& schedule, std::span<const std::int64_t> timesteps,
                   VarianceKind variance = VarianceKind::posterior);

    std::span<const ReverseTransition> transitions() const { return transitions_; }
    std::int64_t size() const { return static_cast<std::int64_t>(transitions_.size()); }
    VarianceKind variance_kind() const { return variance_; }

    /// The variance of the noise of step i (0 is the first of sampling); 0 in the last step. (diffusers adds noise to the
    /// finished image where a chain with the variance beta ends above t = 0: trailing, or steps_offset > 0.)
    double variance(std::int64_t i) const;
    /// What the kernel needs for step i; `clip` bounds x_0 to [-clip, clip], 0 for no bound.
    kernels::ReverseStepCoefficients coefficients(std::int64_t i, double clip = 1) const;

  private:
    const ReverseTransition& at(std::int64_t i) const;

    VarianceKind variance_;
    std::vector<ReverseTransition> transitions_;
};

}  // namespace ito::diffusion
