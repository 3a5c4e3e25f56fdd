#pragma once
// Finds the variant of a kernel for sizes that are met for the first time (CUDA): the one that was chosen before, or the
// fastest of those there are, timed as they will run, inside a CUDA graph.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/common/choices.h"
#include "kernels/common/context.h"

namespace ito::kernels {

/// A result that the candidates add to, so that timing them would change it: `rows` of `row_bytes`, `stride_bytes` apart.
struct Accumulated {
    void* data = nullptr;
    std::int64_t rows = 0, row_bytes = 0, stride_bytes = 0;
};

/// The power of two that all addresses are multiples of, at most 16: no library asks for more. Null: 16.
inline std::int64_t common_alignment(std::initializer_list<const void*> pointers) {
    std::uintptr_t all = 16;
    for (const void* pointer : pointers) all |= reinterpret_cast<std::uintptr_t>(pointer);
    return static_cast<std::int64_t>(all & (~all + 1));
}

/// Takes `prefix` off a recorded choice; false if it does not begin with that.
inline bool skip(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

/// Whether the context's stream can be used to time something: not while it is captured.
bool can_time(const Context& context);

/// The number of the fastest of run(0) to run(count - 1). Those that throw are out; if all do, so does this. `results` are put
/// back afterwards; whatever else the candidates write they overwrite. Waits for the stream.
std::size_t fastest(const Context& context, std::size_t count, const std::function<void(std::size_t)>& run,
                    std::span<const Accumulated> results);

/// The variant for `key`. A Family is one call of a kernel:
///   Candidate                               a way to compute it
///   std::string text(Candidate)             a line that it can be recreated from
///   std::optional<Candidate> recreate(text) nothing where that is not possible here
///   std::vector<Candidate> candidates(all)  at least one, the best guess first; only that one unless `all`
///   void run(Candidate)                     computes it
///   std::vector<Accumulated> accumulated() see fastest()
template <class Family>
typename Family::Candidate choose(const Context& context, const std::string& key, Family& family) {
    using Candidate = typename Family::Candidate;
    VariantChoices* const choices = context.choices;
    if (choices != nullptr)
        if (const std::string* const before = choices->find(key)) {
            if (std::optional<Candidate> variant = family.recreate(*before)) return std::move(*variant);
            choices->notice(key + ": the choice \"" + *before + "\" is not possible here; choosing again");
        }
    const bool timed = choices != nullptr && choices->autotune() && can_time(context);
    std::vector<Candidate> candidates = family.candidates(timed);
    std::size_t best = 0;
    if (timed && candidates.size() > 1)
        best = fastest(
            context, candidates.size(), [&](std::size_t i) { family.run(candidates[i]); },
            family.accumulated());
    if (choices != nullptr) choices->record(key, family.text(candidates[best]));
    return std::move(candidates[best]);
}

}  // namespace ito::kernels
