"""The parts of tools/gpu/check. Each runs its commands and returns a Result."""

import dataclasses
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PEER = pathlib.Path(__file__).resolve().parents[1] / "bench" / "peers_torch.py"
PRECISIONS = ("bfloat16", "tf32", "float32")
# What the sanitizers look at: they make everything about a hundred times slower.
SANITIZED = "CudaUNet.*:CudaTrainingStep.FollowsTheCpu:CudaTrainer.FollowsTheCpu"
SANITIZERS = ("memcheck", "racecheck", "initcheck")

# Both trainings see the same images, timesteps and noise, and differ in rounding alone. A mean over so many steps may
# differ by so much of itself, in the precision named; that of the first ten steps, before roundings have grown, by a
# tenth of it.
RUNNING_MEAN_STEPS = 50
LOSS_TOLERANCE = {"float32": 0.01, "bfloat16": 0.05}
FIRST_LINE = 0.1


@dataclasses.dataclass
class Result:
    """`status`: passed, failed or skipped. `lines`: what the table says. `data`: what the JSON file says."""

    status: str
    lines: list
    data: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Setting:
    """What all parts need."""

    runner: object
    ito: pathlib.Path
    tests: pathlib.Path
    data_dir: str
    quick: bool
    python: str


def verdict(lines, data, failures, late=0):
    """Failed if anything did; what there was no time for is said, and is no failure."""
    if late:
        lines.append(f"{late} not run: the time was used up; more with --minutes")
    return Result("failed" if failures else "passed", lines, data)


def no_time():
    return Result("skipped", ["the time was used up; more with --minutes"])


def tests(setting):
    """The test program itself, not ctest: a process for each test would take longer than the tests."""
    without_slow = ["--gtest_filter=-*Slow*"] if setting.quick else []
    done = setting.runner.run("tests", [setting.tests, *without_slow], 180)
    if done.late:
        return no_time()
    data = read_tests(done.output)
    line = f"{data['passed']} passed, {len(data['failed'])} failed, {data['skipped']} skipped"
    lines = [line, *(f"failed: {name}" for name in data["failed"][:20])]
    if data["unfinished"]:
        lines.append(f"ended in {data['unfinished']}: {done.reason()}")
    elif not done.succeeded and not data["failed"]:
        lines.append(done.reason())
    return verdict(lines, data, not done.succeeded or data["passed"] == 0)


def read_tests(output):
    """GoogleTest's lines rather than its JSON file, which a crash would leave unwritten."""
    ended = re.findall(r"^\[\s*(OK|FAILED|SKIPPED)\s*\] (\S+?),?(?: .*)?\(\d+ ms\)$", output, re.MULTILINE)
    begun = re.findall(r"^\[ RUN +\] (\S+)$", output, re.MULTILINE)
    finished = {name for _, name in ended}
    return {
        "passed": sum(state == "OK" for state, _ in ended),
        "failed": [name for state, name in ended if state == "FAILED"],
        "skipped": sum(state == "SKIPPED" for state, _ in ended),
        "unfinished": next((name for name in reversed(begun) if name not in finished), None),
    }


def sanitizers(setting):
    program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if program is None:
        return Result("skipped", ["compute-sanitizer is not installed; it comes with the CUDA toolkit"])
    lines, data, failures, late = [], {}, 0, 0
    for tool in SANITIZERS[:1] if setting.quick else SANITIZERS:
        command = [program, "--tool", tool, "--error-exitcode", "9", setting.tests, f"--gtest_filter={SANITIZED}"]
        done = setting.runner.run(tool, command, 90)
        if done.late:
            late += 1
            continue
        passed = read_tests(done.output)["passed"]
        found = re.findall(r"^=+ ((?:ERROR|RACECHECK) SUMMARY: .*)$", done.output, re.MULTILINE)
        good = done.succeeded and passed > 0
        failures += not good
        text = f"{found[-1]}; {passed} tests" if found else ("" if good else done.reason())
        lines.append(f"{tool}: {text or f'{passed} tests'}")
        data[tool] = {"clean": good, "tests": passed, "summary": found[-1] if found else None}
    return verdict(lines, data, failures, late) if data else no_time()


def losses(setting):
    """A short training on the GPU against the same on the CPU."""
    steps = 100 if setting.quick else 300
    with tempfile.TemporaryDirectory(prefix="ito-gpu-check-") as folder:
        curves, lines, data, failures = {}, [], {"steps": steps}, 0
        for name, options in {
            "cpu": ["--device", "cpu", "--precision", "float32"],
            **{p: ["--device", "cuda", "--precision", p] for p in LOSS_TOLERANCE},
        }.items():
            run = pathlib.Path(folder) / name
            done = setting.runner.run(f"losses-{name}", training(setting, steps, run, options), 120)
            if done.late:
                return no_time()
            if not done.succeeded:
                failures += 1
                lines.append(f"{name}: {done.reason()}")
                continue
            curves[name] = read_losses(run / "metrics.jsonl")
        for precision, tolerance in LOSS_TOLERANCE.items():
            if "cpu" not in curves or precision not in curves:
                continue
            compared = compare_losses(curves["cpu"], curves[precision], steps)
            data[precision] = compared | {"tolerance": tolerance}
            good = compared["largest"] <= tolerance and compared["first"] <= FIRST_LINE * tolerance
            failures += not good
            lines.append(
                f"{precision}: running mean within {100 * compared['largest']:.2g} % of the CPU's ({100 * tolerance:g} % "
                f"allowed), the first 10 steps {100 * compared['first']:.2g} % ({100 * FIRST_LINE * tolerance:g} %); "
                f"at the end {compared['last']:.4f} and {compared['last_cpu']:.4f}"
            )
        data["curves"] = curves
        return verdict(lines, data, failures)


def training(setting, steps, run, options):
    data_dir = ["--data-dir", setting.data_dir] if setting.data_dir else []
    network = ["--base-channels", "16", "--channel-mults", "1,2", "--layers-per-block", "1"]
    return [
        setting.ito, "train", "--data", "fashion-mnist", *data_dir, *network, "--batch", "32",
        "--steps", steps, "--sample-every", "0", *options, "--out", run,
    ]  # fmt: skip


def read_losses(path):
    """Pairs of step and mean loss of the 10 steps up to it."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [[row["step"], row["loss"]] for row in rows]


def compare_losses(cpu, gpu, steps):
    """The relative differences of the running means, line by line: the largest and the first. Lines that are missing
    and values that are not finite count as infinitely far."""
    nothing = {"largest": math.inf, "first": math.inf, "last": math.nan, "last_cpu": math.nan}
    if [step for step, _ in cpu] != [step for step, _ in gpu] or not cpu or cpu[-1][0] != steps:
        return nothing
    expected, found = running_means(cpu), running_means(gpu)
    differences = [abs(b - a) / a for a, b in zip(expected, found)]
    if not all(math.isfinite(difference) for difference in differences):
        return nothing
    return {"largest": max(differences), "first": differences[0], "last": found[-1], "last_cpu": expected[-1]}


def running_means(curve):
    window = RUNNING_MEAN_STEPS // 10
    losses = [loss for _, loss in curve]
    parts = [losses[max(0, end - window) : end] for end in range(1, len(losses) + 1)]
    return [sum(part) / len(part) for part in parts]


def steps(setting):
    """Whole steps. mnist has its own batch, so that it is the same as in the README's table for the CPU."""
    sizes = {"cifar10": ["--batch", "128"], "mnist": []}
    lines, rows, failures, late = [], [], 0, 0
    for precision in PRECISIONS[:1] if setting.quick else PRECISIONS:
        for size, batch in sizes.items():
            for graph in (True, False):
                name = f"steps-{size}-{precision}{'' if graph else '-no-graph'}"
                options = ["--precision", precision, "--repeats", 3 if setting.quick else 5]
                options += [] if graph else ["--no-graph"]
                command = [setting.ito, "bench", "--device", "cuda", "--size", size, *batch, *options, "--json"]
                done = setting.runner.run(name, command, 60)
                report, reason = json_of(done)
                if report is not None:
                    rows.append({"precision": precision, "graph": graph, **report})
                elif done.late:
                    late += 1
                else:
                    failures += 1
                    lines.append(f"{size} {precision}{'' if graph else ' --no-graph'}: {reason}")
    lines.insert(0, f"{len(rows)} measured")
    return verdict(lines, {"rows": rows}, failures, late)


def kernels(setting):
    repeats = 3 if setting.quick else 5
    command = [setting.ito, "bench", "kernels", "--json", "--repeats", repeats]
    if setting.quick:
        command += ["--filter", "bfloat16/cifar10"]
    done = setting.runner.run("kernels", command, 150)
    if done.late:
        return no_time()
    report, reason = json_of(done)
    if report is None:
        return Result("failed", [reason])
    timed = [row for row in report["results"] if "median_us" in row]
    cases = len({(row["kernel"], row["type"], row["model"], row["shape"]) for row in timed})
    line = f"{cases} cases, {len(timed)} times; a copy moves {report.get('copy_gb_per_second', 0):.0f} GB/s"
    return verdict([line], report, not timed)


def peers(setting):
    """PyTorch on the same work. The most telling first: the time may end before the last."""
    python, torch, reason = find_torch(setting.python)
    if python is None:
        return Result("skipped", [reason])
    measured = [
        ("cifar10", "train", "bfloat16", True),
        ("cifar10", "train", "bfloat16", False),
        ("cifar10", "sample", "bfloat16", False),
        ("cifar10", "sample", "bfloat16", True),
        ("mnist", "train", "bfloat16", False),
        ("cifar10", "train", "float32", False),
        ("cifar10", "train", "tf32", False),
        ("cifar10", "sample", "float32", False),
        ("cifar10", "sample", "tf32", False),
        ("mnist", "train", "bfloat16", True),
        ("mnist", "sample", "bfloat16", False),
        ("mnist", "sample", "bfloat16", True),
    ]
    if setting.quick:
        measured = measured[1:3]
    lines, rows, failures, late = [], [], 0, 0
    for size, mode, precision, compiled in measured:
        name = f"peers-{size}-{mode}-{precision}{'-compile' if compiled else ''}"
        command = [python, PEER, "--device", "cuda", "--size", size, "--mode", mode, "--precision", precision, "--ema"]
        command += ["--batch", 128 if size == "cifar10" else 0, "--repeats", 5, *(["--compile"] if compiled else [])]
        done = setting.runner.run(name, command, 150 if compiled else 60, own_program=False)
        report, reason = json_of(done)
        if report is not None:
            rows.append(report)
        elif done.late:
            late += 1
        else:
            failures += 1
            lines.append(f"{size} {mode} {precision}{' --compile' if compiled else ''}: {reason}")
    lines.insert(0, f"PyTorch {torch}: {len(rows)} measured")
    return verdict(lines, {"python": python, "version": torch, "rows": rows}, failures, late)


def find_torch(wanted):
    """A Python whose PyTorch finds a GPU: the interpreter, PyTorch's version, and otherwise why there is none."""
    reason = "PyTorch is not installed (name a Python that has it with --python)"
    for python in [wanted] if wanted else dict.fromkeys([sys.executable, "python3", "/usr/bin/python3"]):
        question = "import torch; print(torch.__version__, torch.cuda.is_available())"
        try:
            asked = subprocess.run([python, "-c", question], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
            continue
        words = asked.stdout.split()
        if len(words) == 2 and words[1] == "True":
            return python, words[0], ""
        if len(words) == 2:
            reason = f"PyTorch {words[0]} of {python} finds no GPU"
    return None, None, reason


def json_of(done):
    """The JSON object that a command printed, or why there is none."""
    if not done.succeeded:
        return None, done.reason()
    try:
        return json.loads(done.output), ""
    except json.JSONDecodeError as error:
        return None, f"no JSON: {error}"


PARTS = {
    "tests": tests,
    "losses": losses,
    "steps": steps,
    "kernels": kernels,
    "sanitizers": sanitizers,
    "peers": peers,
}
