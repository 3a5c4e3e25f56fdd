#pragma once
// What the targets share: how one is declared, and what it holds a parser to.
//
// A target is one function of the input's bytes. Built by clang with ITO_FUZZ it becomes libFuzzer's; in an ordinary
// build all targets are one program that replays files (replay.cpp). It finds something by dying: of a sanitizer, of
// an exception that is no ito::Error, or of expect().

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace ito::fuzz {

using Input = std::span<const std::byte>;

inline std::string_view text_of(Input input) {
    return {reinterpret_cast<const char*>(input.data()), input.size()};
}

/// Takes up to `count` bytes from the front.
inline Input take(Input& input, std::size_t count) {
    const Input front = input.first(std::min(count, input.size()));
    input = input.subspan(front.size());
    return front;
}

/// Takes a byte from the front, as a number; 0 at the end.
inline std::size_t take_byte(Input& input) {
    const Input front = take(input, 1);
    return front.empty() ? 0 : std::to_integer<std::size_t>(front[0]);
}

/// Ends the program unless `condition`.
template <class... Args>
void expect(bool condition, fmt::format_string<Args...> format, Args&&... args) {
    if (condition) return;
    std::fprintf(stderr, "FOUND: %s\n", fmt::format(format, std::forward<Args>(args)...).c_str());
    std::abort();
}

/// The text of a refusal: one line that a terminal can show.
inline void expect_one_line(std::string_view message) {
    constexpr std::size_t longest = 2000;
    expect(!message.empty() && message.size() <= longest, "an error of {} bytes: {}", message.size(),
           message.substr(0, longest));
    for (const char c : message)
        expect(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f,
               "an error with the control character {:#x}: {}", static_cast<unsigned char>(c), message);
}

/// Calls `read`; false if it refused its input with an ito::Error. No other exception may leave it.
template <class Read>
bool accepts(Read&& read) {
    try {
        read();
        return true;
    } catch (const Error& error) {
        expect_one_line(error.what());
        return false;
    }
}

using Target = void (*)(Input);

/// Makes a target known to replay.cpp.
struct Registration {
    Registration(const char* name, Target target);
};

}  // namespace ito::fuzz

// ITO_FUZZ_TARGET(name) { ... input ... }: the file is name_fuzz.cpp, the name stands in tools/fuzz/CMakeLists.txt.
#ifdef ITO_FUZZ
#define ITO_FUZZ_TARGET(name)                                                           \
    static void fuzz_##name(ito::fuzz::Input input);                                    \
    extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { \
        fuzz_##name({reinterpret_cast<const std::byte*>(data), size});                  \
        return 0;                                                                       \
    }                                                                                   \
    static void fuzz_##name(ito::fuzz::Input input)
#else
#define ITO_FUZZ_TARGET(name)                                                     \
    static void fuzz_##name(ito::fuzz::Input input);                              \
    static const ito::fuzz::Registration registration_##name(#name, fuzz_##name); \
    static void fuzz_##name(ito::fuzz::Input input)
#endif
