#pragma once
// Runs a program as a user would: its own process, its output caught, perhaps on a terminal, perhaps ended by a
// signal. No shell is involved.

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ito::testing {

struct CommandOptions {
    /// Sent once, when this text has appeared in the output.
    int signal = 0;
    std::string signal_at = {};
    /// Called every few milliseconds with the output so far and the seconds since the start; what is not 0 is sent.
    std::function<int(const std::string& out, const std::string& err, double seconds)> signals = {};
    /// When this text has appeared, nobody reads the output any longer.
    std::string close_output_at = {};
    /// Bytes that a file may have, 0 for any; writing beyond fails as on a full disk.
    std::uint64_t largest_file = 0;
    bool terminal = false;  ///< standard output and error are one terminal of 80 columns
    std::string terminal_kind = "xterm";
    std::filesystem::path folder = {};
    double seconds = 120;  ///< then it is killed, which fails with an exception
};

struct CommandResult {
    int status = 0;  ///< exit status, or 128 + the signal that ended it
    std::string out, err;
    double seconds = 0;
};

inline CommandResult run_command(const std::string& program, std::vector<std::string> arguments,
                                 const CommandOptions& options = {}) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);

    std::array<int, 2> out{-1, -1}, err{-1, -1};
    if (pipe2(err.data(), O_CLOEXEC) != 0 || (!options.terminal && pipe2(out.data(), O_CLOEXEC) != 0))
        throw std::runtime_error("no pipe");
    winsize size = {};
    size.ws_row = 24;
    size.ws_col = 80;
    const pid_t child = options.terminal ? forkpty(&out[0], nullptr, nullptr, &size) : fork();
    if (child < 0) throw std::runtime_error("no process");
    if (child == 0) {
        setenv("TERM", options.terminal_kind.c_str(), 1);
        if (!options.terminal) {
            dup2(out[1], STDOUT_FILENO);
            dup2(err[1], STDERR_FILENO);
        }
        if (options.largest_file > 0) {
            const rlimit limit = {options.largest_file, options.largest_file};
            setrlimit(RLIMIT_FSIZE, &limit);
        }
        if (options.folder.empty() || chdir(options.folder.c_str()) == 0) execv(program.c_str(), argv.data());
        _exit(127);
    }
    if (out[1] >= 0) close(out[1]);
    close(err[1]);

    CommandResult result;
    bool sent = options.signal == 0, too_long = false;
    std::array<pollfd, 2> open{{{out[0], POLLIN, 0}, {err[0], POLLIN, 0}}};
    while (open[0].fd >= 0 || open[1].fd >= 0) {
        poll(open.data(), open.size(), options.signals ? 2 : 100);
        for (auto& file : open) {
            if (file.fd < 0 || file.revents == 0) continue;
            std::array<char, 4096> buffer{};
            const auto got = read(file.fd, buffer.data(), buffer.size());
            auto& text = file.fd == out[0] ? result.out : result.err;
            if (got > 0) {
                text.append(buffer.data(), static_cast<std::size_t>(got));
            } else {
                file.fd = -1;  // its end; a terminal reports an error then
            }
        }
        if (!sent && result.out.find(options.signal_at) != std::string::npos) {
            kill(child, options.signal);
            sent = true;
        }
        if (options.signals)
            if (const int next = options.signals(result.out, result.err, elapsed())) kill(child, next);
        if (!options.close_output_at.empty() && open[0].fd >= 0 &&
            result.out.find(options.close_output_at) != std::string::npos) {
            close(std::exchange(out[0], -1));
            open[0].fd = -1;
        }
        if (!too_long && elapsed() > options.seconds) {
            kill(child, SIGKILL);
            too_long = true;
        }
    }
    if (out[0] >= 0) close(out[0]);
    close(err[0]);
    int status = 0;
    waitpid(child, &status, 0);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.seconds = elapsed();
    if (too_long) throw std::runtime_error("did not end in time; its output:\n" + result.out + result.err);
    if (!sent)
        throw std::runtime_error("never said \"" + options.signal_at + "\" but:\n" + result.out + result.err);
    return result;
}

}  // namespace ito::testing
