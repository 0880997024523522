"""The network of spt_jax in PyTorch, as one would ordinarily write it: the peer of `torch_peer`, equal to ours to 1e-5."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spt_jax.config import ModelConfig
from spt_jax.model.denoise import MEDIAN_OF_SQUARES, SURELY_SIGNAL
from spt_jax.model.heads import HeadSpec
from spt_jax.model.spt import ELEMENTS, EMBEDDING_KERNEL


class Inception(nn.Module):
    """(B, d, R, p) -> the same: the mean of convolutions with the kernels 1, 3, .. size, as TimesNet has it."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.kernels = nn.ModuleList([nn.Conv2d(width, width, k, padding=k // 2) for k in range(1, size + 1, 2)])

    def forward(self, grid: Tensor) -> Tensor:
        return torch.stack([kernel(grid) for kernel in self.kernels], dim=-1).mean(-1)


class PrunedConv2d(nn.Conv2d):
    """(B, d, R, p) -> the same, without the taps that fall off the grid: |r| < R, |c| < p."""

    def forward(self, grid: Tensor) -> Tensor:
        half = self.kernel_size[0] // 2
        r, c = min(half, grid.shape[2] - 1), min(half, grid.shape[3] - 1)
        weight = self.weight[:, :, half - r : half + r + 1, half - c : half + c + 1]
        return F.conv2d(grid, weight, self.bias, padding=(r, c))


class BandBlock(nn.Module):
    """(B, L, d), (B, k) frequencies -> (B, L, d)."""

    def __init__(self, config: ModelConfig, variant: str):
        super().__init__()
        self.config = config
        d, size = config.width, config.kernel
        if variant == "merged":
            self.conv = PrunedConv2d(d, d, size)
        else:
            self.conv = Inception(d, size) if size > 3 else nn.Conv2d(d, d, size, padding=size // 2)
        self.query = nn.Parameter(torch.randn(d))
        self.context, self.project, self.key, self.out = (nn.Linear(d, d) for _ in range(4))

    @torch.no_grad()
    def bands(self, h: Tensor) -> Tensor:
        batch, k = len(h), self.config.bands
        if self.config.band_mode == "fixed":
            return torch.arange(1, k + 1, device=h.device).expand(batch, k)
        strength = torch.fft.rfft(h.float(), dim=1).abs().mean(dim=-1)[:, 1 : self.config.highest_band + 1]
        if self.config.band_mode == "batch":
            strength = strength.mean(dim=0, keepdim=True)
        return (strength.topk(k, dim=1).indices + 1).expand(batch, k)

    def folded(self, h: Tensor, period: int) -> Tensor:
        batch, length, width = h.shape
        rows = math.ceil(length / period)
        grid = F.pad(h, (0, 0, 0, rows * period - length)).reshape(batch, rows, period, width)
        result = self.conv(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return result.reshape(batch, rows * period, width)[:, :length]

    @torch.compiler.disable  # the number of spectra of a period depends on the data, and the compiler fails on it
    def grouped(self, h: Tensor, periods: Tensor) -> Tensor:
        """(B, k, L, d): each distinct period once, for the spectra that chose it."""
        flat = periods.flatten()
        pieces, places = [], []
        for period in flat.unique().tolist():
            place = (flat == period).nonzero()[:, 0]
            pieces.append(self.folded(h.index_select(0, place // periods.shape[1]), period))
            places.append(place)
        features = torch.cat(pieces).index_select(0, torch.cat(places).argsort())
        return features.view(*periods.shape, *h.shape[1:])

    def forward(self, h: Tensor, bands: Tensor) -> Tensor:
        length, d = h.shape[1:]
        if self.config.band_mode == "per_sample":
            features = self.grouped(h, -(-length // bands))
        else:
            shared = range(1, self.config.bands + 1) if self.config.band_mode == "fixed" else bands[0].tolist()
            features = torch.stack([self.folded(h, -(-length // f)) for f in shared], dim=1)
        features = gelu(features)
        query = self.project(gelu(self.context(h.mean(dim=1)))) + self.query
        score = torch.einsum("bd,bkd->bk", query, self.key(features.mean(dim=2))) / math.sqrt(d)
        return self.out(torch.einsum("bk,bkld->bld", score.softmax(dim=-1), features))


class BandedAttention(nn.Module):
    """(B, L, d) -> (B, L, d): graph attention to the window |i - j| <= w."""

    def __init__(self, config: ModelConfig, length: int):
        super().__init__()
        d, self.heads, self.reach = config.width, config.attention_heads, config.window
        scores = d if config.attention == "gatv2" else self.heads
        self.target, self.source = nn.Linear(d, scores, bias=False), nn.Linear(d, scores)
        self.value, self.out = nn.Linear(d, d), nn.Linear(d, d)
        self.direction = None
        if config.attention == "gatv2":
            self.direction = nn.Parameter(torch.randn(self.heads, d // self.heads) / math.sqrt(d))
        neighbour = torch.arange(length)[:, None] + torch.arange(-self.reach, self.reach + 1)
        outside = ((neighbour < 0) | (neighbour >= length))[None, :, :, None]
        self.register_buffer("outside", outside, persistent=False)

    def window(self, x: Tensor) -> Tensor:
        """(B, L, H, c) -> (B, L, W, H, c)."""
        padded = F.pad(x, (0, 0, 0, 0, self.reach, self.reach))
        return torch.stack([padded[:, i : i + x.shape[1]] for i in range(2 * self.reach + 1)], dim=2)

    def forward(self, h: Tensor) -> Tensor:
        target, source, value = (f(h).unflatten(-1, (self.heads, -1)) for f in (self.target, self.source, self.value))
        score = F.leaky_relu(target[:, :, None] + self.window(source), 0.2)
        score = score[..., 0] if self.direction is None else (score * self.direction).sum(dim=-1)
        share = score.masked_fill(self.outside, -math.inf).softmax(dim=2)
        return self.out((share[..., None] * self.window(value)).sum(dim=2).flatten(2))


class Heads(nn.Module):
    """(B, L, d), (B, L) -> (B, C) logits or (B,) value of each head."""

    def __init__(self, config: ModelConfig, specs: tuple[HeadSpec, ...], length: int):
        super().__init__()
        self.specs, channels = specs, config.readout_channels
        self.reduce = nn.Linear(config.width, channels)
        self.shared = nn.Linear(length * (channels + 1) + config.width, config.hidden)
        self.layers = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.hidden_layers - 1))
        self.outputs = nn.Linear(config.hidden, sum(max(s.classes, 1) for s in specs))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, h: Tensor, signal: Tensor) -> dict[str, Tensor]:
        features = self.dropout(torch.cat([self.reduce(h).flatten(1), h.mean(dim=1), signal], dim=-1))
        hidden = self.dropout(gelu(self.shared(features)))
        for layer in self.layers:
            hidden = self.dropout(gelu(layer(hidden)))
        flat = self.outputs(hidden).float()
        pieces = flat.split([max(s.classes, 1) for s in self.specs], dim=-1)
        return {s.name: x if s.classes else x[:, 0] for s, x in zip(self.specs, pieces, strict=True)}


class TorchSPT(nn.Module):
    """(B, L) spectra, (B,) atomic numbers -> the outputs of spt_jax.model.spt.SPT. `build` fills the input map."""

    def __init__(self, config: ModelConfig, heads: tuple[HeadSpec, ...], length: int, variant: str):
        super().__init__()
        d, graphs = config.width, config.blocks if config.attention != "none" else 0
        self.denoise = config.denoise
        self.register_buffer("mean", torch.zeros(length), persistent=False)
        self.register_buffer("directions", torch.eye(length), persistent=False)
        self.register_buffer("variance", torch.ones(length), persistent=False)
        self.register_buffer("input_linear", torch.eye(length), persistent=False)
        self.register_buffer("input_offset", torch.zeros(length), persistent=False)
        self.embed = nn.Linear(EMBEDDING_KERNEL, d)
        self.position = nn.Parameter(0.02 * torch.randn(length, d))
        self.element = nn.Embedding(ELEMENTS, d)
        self.band_norms = nn.ModuleList([nn.LayerNorm(d, eps=1e-6) for _ in range(config.blocks)])
        self.band_blocks = nn.ModuleList([BandBlock(config, variant) for _ in range(config.blocks)])
        self.graph_norms = nn.ModuleList([nn.LayerNorm(d, eps=1e-6) for _ in range(graphs)])
        self.graphs = nn.ModuleList([BandedAttention(config, length) for _ in range(graphs)])
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.heads = Heads(config, heads, length)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, spectrum: Tensor, atomic_number: Tensor) -> dict[str, Tensor]:
        with torch.autocast(spectrum.device.type, enabled=False):
            spectrum = self.filtered(spectrum) if self.denoise else spectrum
            signal = spectrum @ self.input_linear + self.input_offset
        reach = EMBEDDING_KERNEL // 2
        padded = F.pad(signal[:, None], (reach, reach), mode="replicate")[:, 0]
        h = self.embed(padded.unfold(1, EMBEDDING_KERNEL, 1))
        chosen = []
        for i, block in enumerate(self.band_blocks):
            chosen.append(block.bands(h))
            if i == 0:
                h = h + self.position + self.element(atomic_number)[:, None]
            h = h + block(self.band_norms[i](h), chosen[-1]) * self.kept_channels(h)
            if self.graphs:
                h = h + self.graphs[i](self.graph_norms[i](h)) * self.kept_channels(h)
        return {**self.heads(self.norm(h), signal), "bands": torch.stack(chosen, dim=1)}

    def filtered(self, spectrum: Tensor) -> Tensor:
        """(B, L) without the noise that each spectrum has in the directions where clean ones vary least."""
        along = (spectrum - self.mean) @ self.directions
        quiet = along.shape[1] // 2
        squares = torch.quantile(along[:, :quiet] ** 2, 0.5, dim=1, keepdim=True)
        noise = (squares / MEDIAN_OF_SQUARES - torch.quantile(self.variance[:quiet], 0.5)).clamp(min=0)
        variance = torch.maximum(self.variance, along**2 - SURELY_SIGNAL**2 * noise)
        return spectrum - (noise / (variance + noise) * along) @ self.directions.T

    def kept_channels(self, h: Tensor) -> Tensor:
        """(B, 1, d) factors of channels under dropout."""
        return self.dropout(torch.ones_like(h[:, :1]))


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")
