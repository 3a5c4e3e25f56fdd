#pragma once
// Progress on a terminal, Ctrl-C, and commands in messages that can be copied.

#include <chrono>
#include <cstdint>
#include <string>

namespace ito::apps {

/// One line that is rewritten in place on a terminal; elsewhere (a file, a pipe) a plain line every ten seconds.
class ProgressLine {
  public:
    ProgressLine();
    ~ProgressLine();
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    /// Shows `text` if enough time has passed, or if `now`.
    void show(const std::string& text, bool now = false);
    /// A line of its own that stays.
    void print(const std::string& text);

  private:
    void clear();

    bool terminal_;
    bool dirty_ = false;
    std::chrono::steady_clock::time_point last_;
};

/// "1:02:03" or "2:03".
std::string format_duration(double seconds);

/// "1 step", "12 steps".
std::string counted(std::int64_t number, const char* noun);
/// `text` as one word of a command line, quoted if a shell needs that.
std::string shell_word(const std::string& text);

/// How this program was called, for commands in messages: "build/release/ito"; "ito" if it was found in PATH.
std::string program();
void set_program(const std::string& called);

/// From here on the first Ctrl-C (or SIGTERM, or the terminal's end) only sets a flag; a second one ends the process at once.
void catch_interrupts();
bool interrupted();
/// Exit status of a command that stopped because of Ctrl-C, as shells use it.
inline constexpr int exit_interrupted = 130;

}  // namespace ito::apps
