"""trained_folder.py - a folder of `muster train diffusion` opened by the libraries whose layout it has.

Reads MODEL with diffusers and transformers, runs one denoising call there, and writes inputs and outputs
as a safetensors file for test_trained_folder to compare with; or prints that a package is missing.

Usage: trained_folder.py MODEL OUT.safetensors
"""
import sys

try:
    import torch
    from diffusers import PixArtTransformer2DModel, SD3Transformer2DModel
    from safetensors.torch import save_file
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)
import json

model, out = sys.argv[1:]
two = json.load(open(model + "/transformer/config.json"))["_class_name"] == "SD3Transformer2DModel"
net = (SD3Transformer2DModel if two else PixArtTransformer2DModel).from_pretrained(model, subfolder="transformer")
text, said = (CLIPTextModelWithProjection if two else CLIPTextModel).from_pretrained(
    model, subfolder="text_encoder", output_loading_info=True)
assert not said["missing_keys"] and not said["unexpected_keys"], said
tok = CLIPTokenizer.from_pretrained(model, subfolder="tokenizer")
ids = tok(["a red boat left of a yellow house on the sea", "a blue ball on the road"], padding="max_length",
          max_length=text.config.max_position_embeddings, return_tensors="pt")
print(ids.input_ids[0].tolist())
net, text = net.float().eval(), text.float().eval()
torch.manual_seed(1)
side = net.config.sample_size
x = torch.randn(2, net.config.in_channels, side, side)
t = torch.tensor([700.0, 123.0])
with torch.no_grad():
    h = text(input_ids=ids.input_ids)
    if two:
        y = net(x, timestep=t, encoder_hidden_states=h.last_hidden_state,
                pooled_projections=h.text_embeds).sample
    else:
        mask = torch.cumsum(ids.input_ids == text.config.eos_token_id, 1)
        mask = ((mask == 0) | ((mask == 1) & (ids.input_ids == text.config.eos_token_id))).long()
        y = net(x, timestep=t, encoder_hidden_states=h.last_hidden_state, encoder_attention_mask=mask,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None}).sample
save_file({"x": x, "t": t, "ids": ids.input_ids, "hidden": h.last_hidden_state.contiguous(), "y": y}, out)
print("y", float(y.abs().max()))
