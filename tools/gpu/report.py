"""What tools/gpu/check says: about the machine, the table, the JSON file."""

import datetime
import json
import math
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = {"cifar10": "32x32x3, 35.7 M", "mnist": "28x28x1, 1.62 M"}
GPU_FIELDS = (
    "name", "driver_version", "compute_cap", "memory.total", "clocks.max.sm", "power.limit", "utilization.gpu",
    "memory.used",
)  # fmt: skip


def output_of(*command):
    """The first words that a command prints, None where it cannot be run or fails."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine():
    asked = output_of("nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits")
    cards = [dict(zip(GPU_FIELDS, map(str.strip, line.split(",")))) for line in (asked or "").splitlines()]
    return {"cards": cards, "cpu": cpu_model(), "system": platform.platform()}


def cpu_model():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def head(ito):
    """What was measured, when and on what."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": output_of("git", "-C", ROOT, "describe", "--always", "--dirty"),
        "ito": output_of(ito, "--version"),
        "machine": machine(),
    }


def without_nan(value):
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path, report):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(without_nan(report), indent=1, allow_nan=False) + "\n")


def print_table(report):
    cards = report["machine"]["cards"]
    card = f"{cards[0]['name']}, driver {cards[0]['driver_version']}" if cards else "no card that nvidia-smi knows"
    print(f"\n== {card}; commit {report['commit'] or 'unknown'}; {report['date']}")
    if cards and float(cards[0]["utilization.gpu"] or 0) > 0:
        print("   Something else was using the GPU at the beginning: the times may be too long.")
    for name, part in report["parts"].items():
        first, *others = part["lines"] or [""]
        print(f"{name:11} {part['status']:8} {part['seconds']:5.0f} s  {first}")
        for line in others:
            print(f"{'':29}{line}")
    data = {name: part["data"] for name, part in report["parts"].items()}
    print_steps(data.get("steps", {}).get("rows", []), data.get("peers", {}).get("rows", []))
    print_kernels(data.get("kernels", {}).get("results", []))


def print_steps(ours, theirs):
    """Best times of a step, one row for each model, step and precision that anything was measured for."""
    if not ours and not theirs:
        return
    rows = {}
    for row in ours:
        for mode in ("train", "sample"):
            if mode in row:
                key = (row["size"], mode, row["precision"], row["batch"])
                rows.setdefault(key, {})["graph" if row["graph"] else "eager"] = row[mode]
    for row in theirs:
        key = (row["size"], row["mode"], row["precision"], row["batch"])
        rows.setdefault(key, {})["compile" if row["compile"] else "torch"] = row
    print("\nBest ms of a step, and MiB of device memory:\n")
    times = "ito | without a graph | PyTorch | torch.compile"
    print(f"| model | batch | step | precision | {times} | ito MiB | PyTorch MiB | torch.compile MiB |")
    print("|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|")
    order = {"cifar10": 0, "mnist": 1, "train": 0, "sample": 1, "bfloat16": 0, "tf32": 1, "float32": 2}
    for key in sorted(rows, key=lambda key: [order[word] for word in key[:3]]):
        size, mode, precision, batch = key
        row = rows[key]
        times = [number(row.get(column), "best_ms", 2) for column in ("graph", "eager", "torch", "compile")]
        memory = [number(row.get("graph"), "allocator_peak_mib", 0)]
        memory += [number(row.get(column), "peak_device_mib", 0) for column in ("torch", "compile")]
        print(f"| {' | '.join([SIZES[size], str(batch), mode, precision, *times, *memory])} |")


def number(row, field, digits):
    return "" if not row or row.get(field) is None else f"{row[field]:.{digits}f}"


def print_kernels(rows):
    """What runs by default at the sizes of the larger model; all others are in the JSON file."""
    shown = [row for row in rows if row["variant"] == "best" and row["model"] == "cifar10" and "median_us" in row]
    if not shown:
        return
    print("\nMedian us of the kernels that run by default, at the shapes of the CIFAR-10 model:\n")
    print("| kernel | type | shape | us | share of a copy |")
    print("|---|---|---|--:|--:|")
    for row in shown:
        share = f"{100 * row['share_of_copy']:.0f} %"
        print(f"| {row['kernel']} | {row['type']} | {row['shape']} | {row['median_us']:.1f} | {share} |")
