#!/usr/bin/env python3
"""Times training and sampling steps of the same U-Net in PyTorch, and prints one JSON object.

The counterpart of `ito bench`: the same architecture (Ho et al. 2020), batch and work per step. A training
step normalises uint8 images, draws timesteps and noise, mixes them, runs forward (with dropout) and backward,
clips the gradient to norm 1 and applies Adam; --ema adds the moving average of the weights, which ito's step
always includes. A sampling step is a forward without gradients and the reverse step with clipped x_0.
One process per measurement, so that the peak memory is that measurement's. Run by tools/bench/peers on the CPU
and by tools/gpu/check on a GPU.

On a GPU PyTorch gets what makes it fast: data on the device, no synchronisation between steps, cuDNN's
autotuning, fused attention, fused Adam, and with --compile also torch.compile in the mode "reduce-overhead":
generated kernels, replayed as CUDA graphs. Other modes can be named; "max-autotune" also times generated matrix
products and convolutions, for minutes. bfloat16 is autocast: weights, gradients and the optimizer are float32.
"""

import argparse
import json
import math
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {
    "mnist": dict(side=28, channels=1, base=32, mults=(1, 2, 2), attention=14, batch=64),
    "cifar10": dict(side=32, channels=3, base=128, mults=(1, 2, 2, 2), attention=16, batch=8),
}
LAYERS_PER_BLOCK = 2
DROPOUT = 0.1
GROUPS = 32
TIMESTEPS = 1000
EMA_DECAY = 0.9999
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def norm(channels):
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class TimeEmbedding(nn.Module):
    """sin | cos of t times frequencies from 1 down to 1 / 10000, then Linear, SiLU, Linear."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        exponent = torch.arange(half, dtype=torch.float32) / (half - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10000) * exponent))
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t):
        angle = t[:, None].float() * self.frequencies
        embedding = torch.cat((torch.sin(angle), torch.cos(angle)), dim=1)
        return self.linear_2(F.silu(self.linear_1(embedding)))


class ResidualBlock(nn.Module):
    def __init__(self, channels_in, channels_out, time_features):
        super().__init__()
        self.norm1 = norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(time_features, channels_out)
        self.norm2 = norm(channels_out)
        self.dropout = nn.Dropout(DROPOUT)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = None
        if channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(time)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (x if self.shortcut is None else self.shortcut(x))


def attend(q, k, v):
    """v softmax(k^T q / sqrt(c)) for [n, c, hw], with PyTorch's fused kernel where this version has one."""
    if hasattr(F, "scaled_dot_product_attention"):
        one_head = [x.transpose(1, 2).unsqueeze(1) for x in (q, k, v)]
        return F.scaled_dot_product_attention(*one_head).squeeze(1).transpose(1, 2)
    weights = torch.softmax(torch.bmm((q * q.shape[1] ** -0.5).transpose(1, 2), k), dim=-1)  # [n, hw, hw]
    return torch.bmm(v, weights.transpose(1, 2))


class AttentionBlock(nn.Module):
    """One head; queries, keys and values from one convolution, which is faster than three."""

    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # each [n, c, hw]
        return x + self.out(attend(q, k, v).reshape(n, c, h, w))


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    def __init__(self, side, channels, base, mults, attention):
        super().__init__()
        time_features = 4 * base
        self.time_embedding = TimeEmbedding(base)
        self.conv_in = nn.Conv2d(channels, base, 3, padding=1)

        width, skips = base, [base]
        self.down = nn.ModuleList()
        for level, mult in enumerate(mults):
            attend = side >> level == attention
            for _ in range(LAYERS_PER_BLOCK):
                blocks = [ResidualBlock(width, base * mult, time_features)]
                width = base * mult
                if attend:
                    blocks.append(AttentionBlock(width))
                self.down.append(nn.ModuleList(blocks))
                skips.append(width)
            if level + 1 < len(mults):
                self.down.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)

        self.middle = nn.ModuleList(
            [
                ResidualBlock(width, width, time_features),
                AttentionBlock(width),
                ResidualBlock(width, width, time_features),
            ]
        )

        self.up = nn.ModuleList()
        for level, mult in reversed(list(enumerate(mults))):
            attend = side >> level == attention
            for i in range(LAYERS_PER_BLOCK + 1):
                blocks = [ResidualBlock(width + skips.pop(), base * mult, time_features)]
                width = base * mult
                if attend:
                    blocks.append(AttentionBlock(width))
                if level > 0 and i == LAYERS_PER_BLOCK:
                    blocks.append(Upsample(width))
                self.up.append(nn.ModuleList(blocks))

        self.norm_out = norm(width)
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x, t):
        time = F.silu(self.time_embedding(t))

        def run(blocks, h):
            for block in blocks:
                h = block(h, time) if isinstance(block, ResidualBlock) else block(h)
            return h

        h = self.conv_in(x)
        skips = [h]
        for blocks in self.down:
            h = run(blocks, h)
            skips.append(h)
        h = run(self.middle, h)
        for blocks in self.up:
            h = run(blocks, torch.cat((h, skips.pop()), dim=1))
        return self.conv_out(F.silu(self.norm_out(h)))


class Setting:
    """Where and how the steps run: device, precision, memory layout, compilation."""

    def __init__(self, arguments):
        self.device = torch.device(arguments.device)
        self.cuda = self.device.type == "cuda"
        self.precision = arguments.precision
        self.mode = arguments.compile
        self.layout = torch.channels_last if arguments.layout == "channels_last" else torch.contiguous_format
        if self.cuda:
            tf32 = self.precision == "tf32"
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = True
        # On the CPU every step is timed. A GPU is waited for after groups of steps: each wait would add to them.
        self.group = 10 if self.cuda else 1
        # Autotuning, compilation and the recording of CUDA graphs end within these.
        self.warm_up = 10 if self.cuda else 2

    def compiled(self, function):
        return torch.compile(function, mode=self.mode) if self.mode else function

    def autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def images(self, x):
        return x.to(self.device).contiguous(memory_format=self.layout)

    def steps(self, repeats):
        return self.warm_up + repeats * self.group


def timed_on_cuda(step, setting, repeats):
    """Milliseconds of a step, the mean of each group of steps between two events."""
    for i in range(setting.warm_up):
        step(i)
    torch.cuda.synchronize()
    # A CUDA graph allocates when it is recorded, not when it is replayed: its memory is the warm-up's.
    if not setting.mode:
        torch.cuda.reset_peak_memory_stats()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for i in range(repeats):
        for j in range(setting.group):
            step(setting.warm_up + i * setting.group + j)
        events[i + 1].record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / setting.group for begin, end in zip(events, events[1:])]


def timed_on_cpu(step, setting, repeats):
    milliseconds = []
    for i in range(setting.steps(repeats)):
        start = time.perf_counter()
        step(i)
        if i >= setting.warm_up:
            milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def average_weights(averages, parameters):
    if hasattr(torch, "_foreach_lerp_"):
        return torch._foreach_lerp_(averages, parameters, 1 - EMA_DECAY)
    for average, parameter in zip(averages, parameters):
        average.lerp_(parameter, 1 - EMA_DECAY)


def training_step(model, size, batch, setting, with_ema):
    shape = (size["channels"], size["side"], size["side"])
    images = setting.images(torch.randint(0, 256, (1024, *shape), dtype=torch.uint8))
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64), 0)
    signal = alphas_cumprod.sqrt().float().to(setting.device)
    sigma = (1 - alphas_cumprod).sqrt().float().to(setting.device)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=2e-4, **({"fused": True} if setting.cuda else {}))
    ema = [p.detach().clone() for p in parameters] if with_ema else None
    model.train()

    def loss_of(pixels, t):
        x = pixels.to(torch.float32, memory_format=setting.layout).div_(127.5).sub_(1)
        noise = torch.randn_like(x)
        x_t = signal[t][:, None, None, None] * x + sigma[t][:, None, None, None] * noise
        return F.mse_loss(model(x_t, t).float(), noise)

    loss_of = setting.compiled(loss_of)

    def step(_):
        index = torch.randint(0, len(images), (batch,), device=setting.device)
        t = torch.randint(0, TIMESTEPS, (batch,), device=setting.device)
        optimizer.zero_grad(set_to_none=True)
        with setting.autocast():
            loss = loss_of(images[index], t)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if ema is not None:
            with torch.no_grad():
                average_weights(ema, parameters)

    return step


def reverse_coefficients(steps):
    """For each step: the factors of x and eps in x_0, of x_0 and x in the mean, and the deviation of the noise."""
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64), 0)
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps).round().long()
    now = alphas_cumprod[timesteps]
    before = torch.cat((now[1:], torch.ones(1, dtype=torch.float64)))
    beta = 1 - now / before
    columns = (
        now**-0.5,
        ((1 - now) / now) ** 0.5,
        before**0.5 * beta / (1 - now),
        (1 - beta) ** 0.5 * (1 - before) / (1 - now),
        (beta * (1 - before) / (1 - now)) ** 0.5,
    )
    return timesteps, torch.stack(columns, dim=1).float()


def sampling_step(model, size, batch, setting, steps):
    timesteps, coefficients = (table.to(setting.device) for table in reverse_coefficients(steps))
    state = {"x": setting.images(torch.randn(batch, size["channels"], size["side"], size["side"]))}
    model.eval()

    def reverse(x, t, c):
        eps = model(x, t.expand(batch)).float()
        x0 = (c[0] * x - c[1] * eps).clamp(-1, 1)
        return c[2] * x0 + c[3] * x + c[4] * torch.randn_like(x)

    reverse = setting.compiled(reverse)

    @torch.no_grad()
    def step(i):
        with setting.autocast():
            # The memory of a compiled function's result is the next call's.
            x = reverse(state["x"], timesteps[i], coefficients[i])
            state["x"] = x.clone() if setting.mode else x

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="mnist")
    parser.add_argument("--mode", choices=("train", "sample"), default="train")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    parser.add_argument(
        "--compile", nargs="?", choices=COMPILE_MODES, const="reduce-overhead", metavar="MODE",
        help=f"torch.compile: {', '.join(COMPILE_MODES)} (reduce-overhead)",
    )  # fmt: skip
    parser.add_argument("--layout", choices=("contiguous", "channels_last"), default="channels_last")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0, help="0 for the size's")
    parser.add_argument("--repeats", type=int, default=10, help="timed steps; on CUDA groups of 10 steps (10)")
    parser.add_argument("--ema", action="store_true", help="average the weights too, as ito does")
    arguments = parser.parse_args()
    if arguments.precision == "bfloat16" and arguments.device == "cpu" and not hasattr(torch, "compile"):
        parser.error(f"--precision bfloat16: PyTorch {torch.__version__} has no GroupNorm for it on the CPU; 2.0 does")
    if arguments.precision == "tf32" and arguments.device == "cpu":
        parser.error("--precision tf32: only a GPU has it")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device cuda: PyTorch {torch.__version__} finds no CUDA device")
    if arguments.compile and not hasattr(torch, "compile"):
        parser.error(f"--compile: PyTorch {torch.__version__} has no torch.compile; 2.0 and later do")

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    setting = Setting(arguments)
    steps = setting.steps(arguments.repeats)
    if arguments.repeats < 1 or steps > TIMESTEPS:
        parser.error(f"--repeats {arguments.repeats}: expected 1 to {(TIMESTEPS - setting.warm_up) // setting.group}")
    size = dict(SIZES[arguments.size])
    batch = size.pop("batch")
    batch = arguments.batch or batch
    model = UNet(**size).to(setting.device, memory_format=setting.layout)
    if arguments.mode == "train":
        step = training_step(model, size, batch, setting, arguments.ema)
    else:
        step = sampling_step(model, size, batch, setting, steps)
    milliseconds = (timed_on_cuda if setting.cuda else timed_on_cpu)(step, setting, arguments.repeats)
    report = {
        "size": arguments.size,
        "mode": arguments.mode,
        "device": torch.cuda.get_device_name() if setting.cuda else "cpu",
        "precision": arguments.precision,
        "compile": arguments.compile,
        "layout": arguments.layout,
        "threads": torch.get_num_threads(),
        "batch": batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "best_ms": min(milliseconds),
        "median_ms": statistics.median(milliseconds),
        "images_per_second": 1000 * batch / min(milliseconds),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": torch.__version__,
    }
    if setting.cuda:
        report["peak_device_mib"] = torch.cuda.max_memory_allocated() / 2**20
        report["cudnn"] = torch.backends.cudnn.version()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
