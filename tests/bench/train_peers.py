#!/usr/bin/env python3
"""Samples per second of PyTorch for the models of bench_train: the same networks, batch, dtype f32.

  train_peers.py llm|gan|captions [--threads N] [--batch N] [--steps N] [--rounds N] [--length N] [--compile]

captions: the GAN told by the pooled captions of a frozen CLIP encoder, real pictures with wrong captions
among the fakes (bench_train gan --set text_encoder=deploy/models/scenes-diffusion/text_encoder --length 24
--vocab 600). Prints each round and the median, as bench_train does; run both in turns.
"""
import argparse
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import spectral_norm


def llm(batch, length):
    from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(vocab_size=1024, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
                         num_key_value_heads=2, intermediate_size=344, tie_word_embeddings=True,
                         max_position_embeddings=1024)
    model = LlamaForCausalLM(config)
    ids = torch.randint(0, 1024, (batch, length))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    average = [p.detach().clone() for p in model.parameters()]

    def step():
        optimiser.zero_grad(set_to_none=True)
        logits = run(ids).logits
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, 1024), ids[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(model.parameters()), 1e-3)
    run = model
    if args.compile:
        run = torch.compile(model)
    return step


class ConditionalNorm(nn.Module):
    def __init__(self, channels, condition):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, affine=False)
        self.gamma = nn.Linear(condition, channels, bias=False)
        self.beta = nn.Linear(condition, channels, bias=False)

    def forward(self, x, e):
        return self.bn(x) * (1 + self.gamma(e)[:, :, None, None]) + self.beta(e)[:, :, None, None]


class Up(nn.Module):
    def __init__(self, a, b, condition):
        super().__init__()
        self.cbn1, self.cbn2 = ConditionalNorm(a, condition), ConditionalNorm(b, condition)
        self.conv1 = nn.Conv2d(a, b, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.conv_sc = nn.Conv2d(a, b, 1, bias=False)

    def forward(self, x, e):
        up = lambda t: F.interpolate(t, scale_factor=2, mode="nearest")
        h = self.conv1(up(F.relu(self.cbn1(x, e))))
        return self.conv2(F.relu(self.cbn2(h, e))) + up(self.conv_sc(x))


def told_by(classes, condition, pooled):
    return nn.Linear(pooled, condition) if pooled else nn.Embedding(classes, condition)


class Generator(nn.Module):
    def __init__(self, widths=(128, 128, 64, 32), z=64, condition=64, classes=1, pooled=0):
        super().__init__()
        self.first = widths[0]
        self.embed = told_by(classes, condition, pooled)
        self.fc = nn.Linear(z + condition, widths[0] * 16)
        self.blocks = nn.ModuleList(Up(a, b, condition) for a, b in zip(widths, widths[1:]))
        self.bn_out = nn.BatchNorm2d(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z, y):
        e = self.embed(y)
        h = self.fc(torch.cat([z, e], 1)).view(-1, self.first, 4, 4)
        for block in self.blocks:
            h = block(h, e)
        return torch.tanh(self.conv_out(F.relu(self.bn_out(h))))


class Down(nn.Module):
    def __init__(self, a, b, first, pools):
        super().__init__()
        self.first, self.pools = first, pools
        self.conv1 = spectral_norm(nn.Conv2d(a, b, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(b, b, 3, padding=1))
        self.conv_sc = spectral_norm(nn.Conv2d(a, b, 1))

    def forward(self, x):
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if not self.pools:
            return h + self.conv_sc(x)
        return F.avg_pool2d(h, 2) + self.conv_sc(F.avg_pool2d(x, 2))


class Discriminator(nn.Module):
    def __init__(self, widths=(32, 64, 128, 128), condition=64, classes=1, pooled=0):
        super().__init__()
        pairs = list(zip((3,) + widths, widths))
        self.blocks = nn.ModuleList(Down(a, b, i == 0, i + 1 < len(pairs)) for i, (a, b) in enumerate(pairs))
        self.fc = spectral_norm(nn.Linear(widths[-1], 1))
        self.embed = told_by(classes, condition, pooled)
        self.proj = spectral_norm(nn.Linear(condition, widths[-1], bias=False))

    def forward(self, x, y, wrong=None):
        for block in self.blocks:
            x = block(x)
        h = F.relu(x).sum((2, 3))
        plain = self.fc(h)
        logits = plain + (h * self.proj(self.embed(y))).sum(1, keepdim=True)
        if wrong is None:
            return logits
        n = len(wrong)
        return logits, plain[:n] + (h[:n] * self.proj(self.embed(wrong))).sum(1, keepdim=True)


def captions(batch, length):
    return gan(batch, length, told=True)


def text_encoder(batch, length):
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection
    text = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=650, hidden_size=96, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=length, projection_dim=96, bos_token_id=648, eos_token_id=649,
        pad_token_id=649)).requires_grad_(False)
    ids = torch.randint(0, 648, (2, batch, length))
    ids[:, :, -1] = 649
    return text, ids


def gan(batch, length, told=False):
    pooled = 96 if told else 0
    g, d = Generator(pooled=pooled), Discriminator(pooled=pooled)
    real = torch.rand(batch, 3, 32, 32) * 2 - 1
    y, wrong = torch.zeros(batch, dtype=torch.long), None
    if told:
        text, ids = text_encoder(batch, length)
        run_text = torch.compile(text) if args.compile else text
    g_adam = torch.optim.Adam(g.parameters(), lr=2e-4, betas=(0.0, 0.9))
    d_adam = torch.optim.Adam(d.parameters(), lr=4e-4, betas=(0.0, 0.9))
    average = [p.detach().clone() for p in g.parameters()]
    run_g, run_d = (torch.compile(g), torch.compile(d)) if args.compile else (g, d)

    def step():
        nonlocal y, wrong
        with torch.no_grad():
            if told:
                y, wrong = (run_text(input_ids=some).text_embeds for some in ids)
            fake = run_g(torch.randn(batch, 64), y)
        logits = run_d(torch.cat([real, fake]), torch.cat([y, y]), wrong)
        if told:
            logits, on_wrong = logits
            loss = F.relu(1 - logits[:batch]).mean() + 0.5 * F.relu(1 + logits[batch:]).mean()
            loss = loss + 0.5 * F.relu(1 + on_wrong).mean()
        else:
            loss = F.relu(1 - logits[:batch]).mean() + F.relu(1 + logits[batch:]).mean()
        d_adam.zero_grad(set_to_none=True)
        loss.backward()
        d_adam.step()
        d.requires_grad_(False)
        loss = -run_d(run_g(torch.randn(batch, 64), y), y).mean()
        g_adam.zero_grad(set_to_none=True)
        loss.backward()
        d.requires_grad_(True)
        g_adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(g.parameters()), 1e-3)
    return step


parser = argparse.ArgumentParser()
parser.add_argument("task", choices=["llm", "gan", "captions"])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--length", type=int, default=128)
parser.add_argument("--compile", action="store_true")
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
step = {"llm": llm, "gan": gan, "captions": captions}[args.task](args.batch, args.length)
rates = []
for r in range(-1, args.rounds):
    start = time.perf_counter()
    for _ in range(args.steps):
        step()
    if r >= 0:
        rates.append(args.steps * args.batch / (time.perf_counter() - start))
        print(f"{rates[-1]:.1f}", end=" ", flush=True)
print(f"\n{args.task}: {statistics.median(rates):.1f} samples/s")
