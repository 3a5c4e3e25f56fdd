"""Running one command with a time limit, its output in a log file."""

import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import time


@dataclasses.dataclass
class Done:
    """What a command did. `status` is its exit status, "timed out", "not started" or, for lack of time, "no time"."""

    command: list
    status: object
    seconds: float
    log: str
    output: str

    @property
    def succeeded(self):
        return self.status == 0

    @property
    def late(self):
        return self.status == "no time"

    def reason(self):
        """Why it did not succeed: its status and its last line."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        status = f"status {self.status}" if isinstance(self.status, int) else self.status
        return f"{status}: {lines[-1].strip()[:200]}" if lines else str(status)

    def summary(self):
        return {
            "command": shlex.join(self.command),
            "status": self.status,
            "seconds": round(self.seconds, 2),
            "log": self.log,
        }


class Runner:
    """Runs commands one after the other until the time is used up. `seconds` is None without a limit."""

    def __init__(self, logs, seconds, libraries):
        self.logs = pathlib.Path(logs)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.end = None if seconds is None else time.monotonic() + seconds
        self.libraries = libraries
        self.done = []

    def left(self):
        return float("inf") if self.end is None else self.end - time.monotonic()

    def run(self, name, command, timeout, own_program=True):
        """The command's standard output and errors go to NAME.log; `output` of the result has standard output only,
        or the errors if there was none. The libraries that came with the binaries are for them alone."""
        command = [str(word) for word in command]
        log = self.logs / f"{name}.log"
        timeout = min(timeout, self.left())
        if timeout < 1:
            done = Done(command, "no time", 0.0, str(log), "the time was used up; more with --minutes")
            self.done.append(done)
            return done
        environment = dict(os.environ)
        if own_program and self.libraries:
            known = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, [str(self.libraries), known]))
        begin = time.monotonic()
        with open(log, "w") as out, open(f"{log}.err", "w") as err:
            try:
                # A session of its own, so that what the command started ends with it.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
                )
            except OSError as error:
                done = Done(command, "not started", 0.0, str(log), str(error))
                self.done.append(done)
                return done
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = "timed out"
            finally:
                if process.poll() is None:
                    end_session(process)
        seconds = time.monotonic() - begin
        output = log.read_text(errors="replace")
        errors = pathlib.Path(f"{log}.err").read_text(errors="replace")
        with open(log, "a") as out:
            out.write(errors)
        os.remove(f"{log}.err")
        if status == "timed out":
            errors += f"\nstopped after {timeout:.0f} s"
        done = Done(command, status, seconds, str(log), output if status == 0 else output + errors)
        self.done.append(done)
        return done


def end_session(process):
    """Asks the process and its children to end, then makes them."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(5)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
