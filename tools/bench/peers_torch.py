#!/usr/bin/env python3
"""Times training and sampling steps of the same U-Net in PyTorch, and prints one JSON object.

The counterpart of `ito bench`: the same architecture (Ho et al. 2020), batch and work per step. A training
step normalises uint8 images, draws timesteps and noise, mixes them, runs forward (with dropout) and backward,
clips the gradient to norm 1 and applies Adam; --ema adds the moving average of the weights, which ito's step
always includes. A sampling step is a forward without gradients and the reverse step with clipped x_0.
One process per measurement, so that the peak memory is that measurement's. Run by tools/bench/peers.
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
WARM_UP_STEPS = 2


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
        weights = torch.softmax(torch.bmm((q * c**-0.5).transpose(1, 2), k), dim=-1)  # [n, hw, hw]
        attended = torch.bmm(v, weights.transpose(1, 2)).view(n, c, h, w)
        return x + self.out(attended)


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


def timed(step, repeats):
    milliseconds = []
    for i in range(WARM_UP_STEPS + repeats):
        start = time.perf_counter()
        step(i)
        if i >= WARM_UP_STEPS:
            milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def training_step(model, size, batch, layout, with_ema):
    images = torch.randint(0, 256, (1024, size["channels"], size["side"], size["side"]), dtype=torch.uint8)
    images = images.contiguous(memory_format=layout)
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64), 0)
    signal, sigma = alphas_cumprod.sqrt().float(), (1 - alphas_cumprod).sqrt().float()
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=2e-4)
    ema = [p.detach().clone() for p in parameters] if with_ema else None
    model.train()

    def step(_):
        index = torch.randint(0, len(images), (batch,))
        t = torch.randint(0, TIMESTEPS, (batch,))
        x = images[index].to(torch.float32, memory_format=layout).div_(127.5).sub_(1)
        noise = torch.randn_like(x)
        x_t = signal[t][:, None, None, None] * x + sigma[t][:, None, None, None] * noise
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(model(x_t, t), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if ema is not None:
            with torch.no_grad():
                for average, parameter in zip(ema, parameters):
                    average.lerp_(parameter, 1 - 0.9999)
        return loss.item()

    return step


def sampling_step(model, size, batch, layout, steps):
    betas = torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64)
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps).round().long().tolist()
    x = torch.randn(batch, size["channels"], size["side"], size["side"]).contiguous(memory_format=layout)
    state = {"x": x}
    model.eval()

    @torch.no_grad()
    def step(i):
        t = timesteps[i]
        now = float(alphas_cumprod[t])
        before = float(alphas_cumprod[timesteps[i + 1]]) if i + 1 < steps else 1.0
        beta = 1 - now / before
        x = state["x"]
        eps = model(x, torch.full((batch,), t))
        x0 = ((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp_(-1, 1)
        mean = (before**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - before) * x) / (1 - now)
        deviation = (beta * (1 - before) / (1 - now)) ** 0.5
        state["x"] = mean + deviation * torch.randn_like(x)

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="mnist")
    parser.add_argument("--mode", choices=("train", "sample"), default="train")
    parser.add_argument("--layout", choices=("contiguous", "channels_last"), default="channels_last")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0, help="0 for the size's")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--ema", action="store_true", help="average the weights too, as ito does")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    size = dict(SIZES[arguments.size])
    batch = size.pop("batch")
    batch = arguments.batch or batch
    layout = torch.channels_last if arguments.layout == "channels_last" else torch.contiguous_format
    model = UNet(**size).to(memory_format=layout)
    if arguments.mode == "train":
        step = training_step(model, size, batch, layout, arguments.ema)
    else:
        step = sampling_step(model, size, batch, layout, WARM_UP_STEPS + arguments.repeats)
    milliseconds = timed(step, arguments.repeats)
    report = {
        "size": arguments.size,
        "mode": arguments.mode,
        "layout": arguments.layout,
        "threads": torch.get_num_threads(),
        "batch": batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "best_ms": min(milliseconds),
        "median_ms": statistics.median(milliseconds),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": torch.__version__,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
