"""train_torch.py - training speed of PyTorch on the diffusion recipe, to hold `muster train` against.

The same networks (diffusers' SD3Transformer2DModel 4 x 128, patch 4; transformers'
CLIPTextModelWithProjection 2 x 96), batch 16, float32, AdamW, clip 1, moving averages, data in memory.

Usage: train_torch.py [--steps N] [--threads N] [--compile]      prints samples/s of the steps after 10
"""
import argparse
import time

import torch
from diffusers import SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

p = argparse.ArgumentParser()
p.add_argument("--steps", type=int, default=60)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--batch", type=int, default=16)
p.add_argument("--layers", type=int, default=4)
p.add_argument("--width", type=int, default=128)
p.add_argument("--compile", action="store_true")
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(0)
text = CLIPTextModelWithProjection(CLIPTextConfig(
    vocab_size=650, hidden_size=96, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=24, projection_dim=96, bos_token_id=648, eos_token_id=649, pad_token_id=649))
net = SD3Transformer2DModel(
    sample_size=32, patch_size=4, in_channels=3, out_channels=3, num_layers=a.layers,
    attention_head_dim=a.width // 4, num_attention_heads=4, joint_attention_dim=96,
    caption_projection_dim=a.width, pooled_projection_dim=96, pos_embed_max_size=8, qk_norm="rms_norm")
weights = [w for m in (net, text) for w in m.parameters()]
ema = [w.detach().clone() for w in weights]
print(sum(w.numel() for w in weights), "parameters")
opt = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
x0 = torch.rand(512, 3, 32, 32) * 2 - 1
ids = torch.randint(0, 648, (512, 24))
ids[:, 0], ids[:, 18:] = 648, 649


def forward(x, noise, s, caption):
    out = text(input_ids=caption)
    x_t = (1 - s.view(-1, 1, 1, 1)) * x + s.view(-1, 1, 1, 1) * noise
    pred = net(x_t, timestep=1000 * s, encoder_hidden_states=out.last_hidden_state,
               pooled_projections=out.text_embeds).sample
    return ((pred - (noise - x)) ** 2).mean()


loss_of = torch.compile(forward) if a.compile else forward
begun = 0.0
for k in range(a.steps + 10):
    if k == 10:
        begun = time.perf_counter()
    at = torch.randint(0, 512, (a.batch,))
    x = x0[at]
    u = torch.sigmoid(torch.randn(a.batch))
    loss = loss_of(x, torch.randn_like(x), 3 * u / (1 + 2 * u), ids[at])
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    opt.step()
    torch._foreach_lerp_(ema, weights, 1e-3)
print("%.1f samples/s, loss %.4f" % (a.steps * a.batch / (time.perf_counter() - begun), loss.item()))
