#include "apps/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace ito::apps {
namespace {

std::atomic<int> interrupts = 0;
static_assert(std::atomic<int>::is_always_lock_free, "set from a signal handler");

extern "C" void on_interrupt(int) {
    if (interrupts.fetch_add(1) > 0) _exit(exit_interrupted);
    // A step can take a while.
    constexpr std::string_view note = "\nstopping after this step (once more: at once, without saving)\n";
    static_cast<void>(!write(STDERR_FILENO, note.data(), note.size()));
}

/// Characters that fit on one line of the terminal: a line that wraps could not be rewritten in place.
std::size_t terminal_width() {
    winsize size = {};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 2) return 79;
    return size.ws_col - 1;
}

/// True where a line can be rewritten: an editor's shell is a terminal too, but a dumb one.
bool is_terminal() {
    const char* kind = std::getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && kind != nullptr && std::string_view(kind) != "dumb";
}

std::string& program_name() {
    static std::string name = "ito";
    return name;
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(is_terminal()) {}

ProgressLine::~ProgressLine() {
    if (dirty_) std::fputc('\n', stdout);
}

void ProgressLine::clear() {
    if (!dirty_) return;
    std::fputs("\r\033[K", stdout);
    dirty_ = false;
}

void ProgressLine::show(const std::string& text, bool now) {
    using namespace std::chrono_literals;
    const auto time = std::chrono::steady_clock::now();
    if (!now && time - last_ < (terminal_ ? 100ms : 10000ms)) return;
    last_ = time;
    if (terminal_) {
        clear();
        std::fputs(text.substr(0, terminal_width()).c_str(), stdout);
        dirty_ = true;
    } else {
        std::fputs((text + "\n").c_str(), stdout);
    }
    std::fflush(stdout);
}

void ProgressLine::print(const std::string& text) {
    clear();
    std::fputs((text + "\n").c_str(), stdout);
    std::fflush(stdout);
}

std::string format_duration(double seconds) {
    const auto whole = static_cast<long long>(seconds + 0.5);
    if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
    return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string counted(std::int64_t number, const char* noun) {
    return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

std::string shell_word(const std::string& text) {
    // A leading '-' would make it an option.
    const std::string name = text.starts_with('-') ? "./" + text : text;
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) || c >= 0x80 ||
               std::string_view("_-+=:,./@%^").find(static_cast<char>(c)) != std::string_view::npos;
    });
    if (plain) return name;
    std::string word = "'";
    for (const char c : name) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return word + "'";
}

std::string program() {
    return program_name();
}

void set_program(const std::string& called) {
    if (called.find('/') != std::string::npos) program_name() = shell_word(called);
}

void catch_interrupts() {
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    // With `ito train | tee log` Ctrl-C ends tee too. Writing to the closed pipe must not end this process before it saves.
    std::signal(SIGPIPE, SIG_IGN);
    // A closed terminal, unless nohup says to go on.
    struct sigaction before = {};
    sigaction(SIGHUP, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

bool interrupted() {
    return interrupts.load() > 0;
}

}  // namespace ito::apps
