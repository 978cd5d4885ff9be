#!/usr/bin/env python3
"""What other programs make of our files, and we of theirs; for tests/e2e/test_llm_peers.c.

    llm_peers.py read FILE.gguf BASE.safetensors OURS.safetensors IDS
        the gguf package reads every tensor; llama.cpp's logits are as near to ours (f32 arithmetic on the
        quantised weights) as those are to BASE (before quantising)
    llm_peers.py write FOLDER THEIRS.safetensors IDS
        transformers writes a small model and its logits
    llm_peers.py same A.safetensors B.safetensors
Ends with 77 where a package is missing.
"""
import sys

try:
    import numpy as np
    from safetensors.numpy import load_file, save_file
    if sys.argv[1] == 'read':
        import gguf
        import llama_cpp
    if sys.argv[1] == 'write':
        import torch
        import transformers
except ImportError as e:
    print(f'skipped: {e}')
    sys.exit(77)


def nmse(a, b):
    return float(((a - b) ** 2).sum() / (b ** 2).sum())


def ids_of(text):
    return [int(i) for i in text.split(',')]


def read(path, base, ours, ids):
    tensors = gguf.GGUFReader(path).tensors
    for t in tensors:
        values = gguf.dequantize(t.data, t.tensor_type)
        assert np.isfinite(values).all() and values.size == t.n_elements, t.name
    model = llama_cpp.Llama(path, n_ctx=64, logits_all=True, n_threads=1, verbose=False)
    model.eval(ids_of(ids))
    theirs = np.array(model.scores[:len(ids_of(ids))], dtype=np.float64)
    mine, first = (load_file(p)['logits'].astype(np.float64) for p in (ours, base))
    apart, own = nmse(theirs, mine), nmse(mine, first)
    print(f'{len(tensors)} tensors; llama.cpp against ours {apart:.2e}, the type itself {own:.2e}')
    assert apart <= max(own, 1e-3), (apart, own)


def write(folder, theirs, ids):
    torch.manual_seed(1)
    config = transformers.Qwen3Config(hidden_size=64, intermediate_size=160, num_hidden_layers=2,
                                      num_attention_heads=4, num_key_value_heads=2, head_dim=32, vocab_size=256,
                                      max_position_embeddings=128)
    model = transformers.Qwen3ForCausalLM(config).float().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
        logits = model(torch.tensor([ids_of(ids)])).logits[0]
    model.save_pretrained(folder)
    save_file({'logits': logits.numpy()}, theirs)
    print(f'transformers {transformers.__version__} wrote {folder}')


def same(a, b):
    apart = np.abs(load_file(a)['logits'] - load_file(b)['logits']).max()
    print(f'largest difference {apart:.2e}')
    assert apart <= 2e-4, apart


{'read': read, 'write': write, 'same': same}[sys.argv[1]](*sys.argv[2:])
