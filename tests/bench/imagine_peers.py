#!/usr/bin/env python3
"""imagine_peers.py - pictures a second of `muster imagine` next to PyTorch + diffusers, on the same folder.

  imagine_peers.py [--build DIR] [--model DIR] [--cores N] [--batch N] [--steps N] [--rounds N] [--pictures N]

The same network, steps, guidance, batch and cores; f32 against f32, and the best of each (bfloat16 products)
where muster has it. PyTorch runs eager and compiled, and does no more than the network, the sampler and the
bytes of the pictures; muster writes its PNG files and its journal too. All in turns; medians.
"""
import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

p = argparse.ArgumentParser()
p.add_argument("--build", default="build")
p.add_argument("--model", default="deploy/models/scenes-diffusion")
p.add_argument("--cores", type=int, default=2)
p.add_argument("--batch", type=int, default=8)
p.add_argument("--steps", type=int, default=20)
p.add_argument("--rounds", type=int, default=5)
p.add_argument("--pictures", type=int, default=48)
p.add_argument("--guidance", type=float, default=5)
a = p.parse_args()
PROMPT = "a blue car on a green field"
torch.set_num_threads(a.cores)
env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def muster(*more):
    """One run on all cores: a rank for each, which is how pictures are made in large batches."""
    out = tempfile.mkdtemp(prefix="muster-peers-")
    shutil.rmtree(out)
    said = subprocess.run(
        ["mpirun", "-n", str(a.cores), "--bind-to", "core", a.build + "/muster", "imagine", PROMPT, "-m", a.model,
         "-n", str(a.pictures), "--seed", "1", "--steps", str(a.steps), "--guidance", str(a.guidance),
         "--batch", str(a.batch), "--threads", "1", "-o", out, *more],
        capture_output=True, text=True, env=env)
    shutil.rmtree(out, ignore_errors=True)
    got = re.search(r"([0-9.]+) a second", said.stdout)
    if said.returncode != 0 or not got:
        raise SystemExit(said.stderr)
    return float(got.group(1))


class Torch:
    def __init__(self, dtype, compiled):
        self.dtype = dtype
        self.text = CLIPTextModelWithProjection.from_pretrained(a.model, subfolder="text_encoder").eval()
        self.net = SD3Transformer2DModel.from_pretrained(a.model, subfolder="transformer").to(dtype).eval()
        self.call = torch.compile(self.net) if compiled else self.net
        self.tokenizer = CLIPTokenizer.from_pretrained(a.model, subfolder="tokenizer")
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(a.model, subfolder="scheduler")

    @torch.no_grad()
    def pictures(self, n):
        ids = self.tokenizer([PROMPT, ""], padding="max_length", truncation=True, return_tensors="pt",
                             max_length=self.text.config.max_position_embeddings).input_ids
        h = self.text(input_ids=ids)
        hidden = h.last_hidden_state.repeat_interleave(n, 0).to(self.dtype)
        pooled = h.text_embeds.repeat_interleave(n, 0).to(self.dtype)
        side = self.net.config.sample_size
        x = torch.randn(n, 3, side, side)
        self.scheduler.set_timesteps(a.steps)
        for t in self.scheduler.timesteps:
            both = torch.cat([x, x]).to(self.dtype)
            out = self.call(both, timestep=t.expand(2 * n), encoder_hidden_states=hidden,
                            pooled_projections=pooled, return_dict=False)[0].float()
            cond, uncond = out.chunk(2)
            x = self.scheduler.step(uncond + a.guidance * (cond - uncond), t, x, return_dict=False)[0]
        return (x * 127.5 + 127.5).clamp(0, 255).round().to(torch.uint8)

    def rate(self):
        begun = time.perf_counter()
        for _ in range(a.pictures // a.batch):
            self.pictures(a.batch)
        return a.pictures // a.batch * a.batch / (time.perf_counter() - begun)


runs = {"muster f32": muster}
if "--compute" in subprocess.run([a.build + "/muster", "imagine", "--help"], capture_output=True, text=True).stdout:
    runs["muster bf16"] = lambda: muster("--compute", "bf16")
for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
    for compiled in (False, True):
        peer = Torch(dtype, compiled)
        try:
            peer.pictures(a.batch)          # what is compiled, is compiled here
        except Exception as e:              # no compiler at hand
            print(f"torch {name} compiled: {str(e).splitlines()[0]}")
            continue
        runs[f"torch {name} {'compiled' if compiled else 'eager'}"] = peer.rate
rates = {name: [] for name in runs}
for _ in range(a.rounds):
    for name, run in runs.items():
        rates[name].append(run())
        print(f"{name} {rates[name][-1]:.2f}", end="; ", flush=True)
    print()
median = {name: statistics.median(r) for name, r in rates.items()}
print(f"{a.model}, batch {a.batch}, {a.steps} steps, {a.cores} cores, medians of {a.rounds}")
for name, r in rates.items():
    print(f"{name:20} {median[name]:7.2f} pictures/s   ({', '.join(f'{x:.2f}' for x in r)})")
for kind in ("f32", "bf16"):
    peers = [m for name, m in median.items() if name.startswith(f"torch {kind}")]
    if f"muster {kind}" in median and peers:
        print(f"{kind}: {median[f'muster {kind}'] / max(peers):.2f} x the faster of PyTorch's")
