"""trained_llm.py - a folder of `muster train llm` opened by the libraries whose layout it has.

Compares the logits that muster wrote (`muster logits --compute f32`) with those of transformers (folder) and
llama.cpp (model.gguf in it, where the package is there); or prints that a package is missing.

Usage: trained_llm.py MODEL LOGITS.safetensors ID,ID,..
"""
import sys

try:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

model, logits, ids = sys.argv[1:]
ids = [int(i) for i in ids.split(",")]
ours = load_file(logits)["logits"].double()
net, said = AutoModelForCausalLM.from_pretrained(model, output_loading_info=True, dtype=torch.float32)
assert not said["missing_keys"] and not said["unexpected_keys"], said
AutoTokenizer.from_pretrained(model)
with torch.no_grad():
    theirs = net.eval()(torch.tensor([ids])).logits[0].double()
off = float((ours - theirs).abs().max())
print(f"transformers: off by {off:.3g} of {float(theirs.abs().max()):.3g}")
assert off <= 1e-4, off
try:
    import llama_cpp
    import numpy
except ImportError as e:
    print("llama.cpp is not compared:", e)
    sys.exit(0)
llama = llama_cpp.Llama(model + "/model.gguf", logits_all=True, n_ctx=128, n_threads=2, verbose=False)
llama.eval(ids)
theirs = torch.from_numpy(numpy.array(llama.scores[:len(ids)])).double()
off = float((ours - theirs).abs().max())
print(f"llama.cpp: off by {off:.3g}")
assert off <= 2e-3 * float(ours.abs().max()), off      # its keys and values are f16
