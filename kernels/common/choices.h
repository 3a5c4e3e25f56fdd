#pragma once
// Which of several variants of a kernel runs for which sizes. The first call with a size times the variants and records the
// fastest here. Choices that replace() brings win over timing: two variants may round differently, and a training that is
// resumed is to repeat the bits of the one that was interrupted.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace ito::kernels {

/// What was chosen for one device. Not thread-safe, like the launchers that use it.
class VariantChoices {
  public:
    /// Kernel, type and sizes -> variant: "conv2d_forward bfloat16 128x32x32x128 -> 128 3x3 s1 p1111 bias" ->
    /// "cudnn 91900 engine 41 knobs 2=0 13=1".
    using Map = std::map<std::string, std::string>;

    /// Off: the first guess (of the library's heuristics, else of the launcher) is taken without timing.
    void set_autotune(bool on) { autotune_ = on; }
    bool autotune() const { return autotune_; }

    const Map& all() const { return choices_; }
    /// Replaces all choices. Launchers then look theirs up again.
    void replace(Map choices) {
        choices_ = std::move(choices);
        ++generation_;
    }
    /// How often replace() was called. Launchers keep it beside their plans, to see that those are old.
    std::int64_t generation() const { return generation_; }

    /// Null where nothing was chosen yet.
    const std::string* find(const std::string& key) const {
        const auto found = choices_.find(key);
        return found == choices_.end() ? nullptr : &found->second;
    }
    void record(const std::string& key, std::string variant) { choices_[key] = std::move(variant); }

    /// A line for the user about a choice that this machine cannot follow.
    void notice(std::string line) { notices_.push_back(std::move(line)); }
    std::vector<std::string> take_notices() { return std::exchange(notices_, {}); }

  private:
    bool autotune_ = true;
    Map choices_;
    std::int64_t generation_ = 0;
    std::vector<std::string> notices_;
};

}  // namespace ito::kernels
