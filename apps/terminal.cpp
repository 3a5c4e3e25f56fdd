#include "apps/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>

namespace ito::apps {
namespace {

std::atomic<int> interrupts = 0;
static_assert(std::atomic<int>::is_always_lock_free, "set from a signal handler");

extern "C" void on_interrupt(int) {
    if (interrupts.fetch_add(1) > 0) _exit(exit_interrupted);
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(isatty(STDOUT_FILENO) != 0) {}

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
        std::fputs(text.c_str(), stdout);
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

void catch_interrupts() {
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return interrupts.load() > 0; }

}  // namespace ito::apps
