#!/usr/bin/env python3
"""Writes the seeds of gguf, safetensors and pieces: python3 tests/fuzz/make_corpus.py (no packages needed)."""
import json
import os
import struct

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def save(target, name, data):
    os.makedirs(os.path.join(here, "fuzz_" + target), exist_ok=True)
    with open(os.path.join(here, "fuzz_" + target, name), "wb") as f:
        f.write(data)


def string(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def key(name, type_, value):
    pack = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
    if isinstance(value, list):
        inner = b"".join(string(v) if type_ == 8 else struct.pack(pack[type_], v) for v in value)
        return string(name) + struct.pack("<IIQ", 9, type_, len(value)) + inner
    return string(name) + struct.pack("<I", type_) + (string(value) if type_ == 8 else struct.pack(pack[type_], value))


def gguf(keys, tensors, version=3, align=32):
    """tensors: (name, ne, type, bytes)"""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys)
    at = 0
    for name, ne, type_, data in tensors:
        head += string(name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne)
        head += struct.pack("<IQ", type_, at)
        at += (len(data) + align - 1) // align * align
    out = head + bytes(-len(head) % align)
    for _, _, _, data in tensors:
        out += data + bytes(-len(data) % align)
    return out


def llama(dim=8, heads=2, ffn=12, vocab=6):
    f = lambda n: bytes(4 * n)
    a = "llama."
    keys = [key("general.architecture", 8, "llama"), key(a + "block_count", 4, 1), key(a + "context_length", 4, 16),
            key(a + "embedding_length", 4, dim), key(a + "feed_forward_length", 4, ffn),
            key(a + "attention.head_count", 4, heads), key(a + "attention.layer_norm_rms_epsilon", 6, 1e-5),
            key(a + "rope.freq_base", 6, 1e4), key("tokenizer.ggml.model", 8, "llama"),
            key("tokenizer.ggml.tokens", 8, [f"t{i}" for i in range(vocab)]),
            key("tokenizer.ggml.scores", 6, [0.0] * vocab), key("tokenizer.ggml.eos_token_id", 4, 2)]
    b = "blk.0."
    tensors = [("token_embd.weight", (dim, vocab), 0, f(dim * vocab)), ("output_norm.weight", (dim,), 0, f(dim)),
               (b + "attn_norm.weight", (dim,), 0, f(dim)), (b + "ffn_norm.weight", (dim,), 0, f(dim))]
    tensors += [(b + n + ".weight", (dim, dim), 1, bytes(2 * dim * dim))
                for n in ("attn_q", "attn_k", "attn_v", "attn_output")]
    tensors += [(b + "ffn_gate.weight", (dim, ffn), 1, bytes(2 * dim * ffn)),
                (b + "ffn_up.weight", (dim, ffn), 1, bytes(2 * dim * ffn)),
                (b + "ffn_down.weight", (ffn, dim), 1, bytes(2 * dim * ffn))]
    return gguf(keys, tensors)


save("gguf", "llama", llama())
save("gguf", "version2", gguf([key("general.architecture", 8, "x")], [("t", (32, 2), 8, bytes(68))], 2))
save("gguf", "kinds", gguf([key(f"k{t}", t, 1) for t in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)]
                           + [key("s", 8, ["a", "", "bc"]), key("e", 4, [])], []))
save("gguf", "alignment", gguf([key("general.alignment", 4, 64)], [("a", (3,), 0, bytes(12)), ("b", (1,), 0, bytes(4))],
                               3, 64))
save("gguf", "part", gguf([key("split.no", 2, 0), key("split.count", 2, 2), key("split.tensors.count", 5, 2)],
                          [("a", (4,), 0, bytes(16))]))
save("gguf", "huge_counts", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60) + bytes(32))
save("gguf", "huge_string", b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63) + bytes(32))
save("gguf", "huge_shape", b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("t")
     + struct.pack("<I4QIQ", 4, 1 << 33, 1 << 33, 1 << 33, 1 << 33, 0, 0) + bytes(64))
save("gguf", "huge_array", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 12, 1 << 61))
save("gguf", "big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))

entry = lambda d, s, a, b: {"dtype": d, "shape": s, "data_offsets": [a, b]}
sound = {"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 2], 0, 16), "b": entry("BF16", [3], 16, 22),
         "none": entry("U8", [0], 22, 22), "one": entry("I64", [], 22, 30)}
save("safetensors", "sound", json.dumps(sound).encode() + b"\n" + bytes(30))
save("safetensors", "overlap", json.dumps({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}).encode()
     + b"\n" + bytes(6))
save("safetensors", "huge_shape", json.dumps({"a": entry("F64", [1 << 62, 4], 0, 8)}).encode() + b"\n" + bytes(8))
save("safetensors", "past_end", json.dumps({"a": entry("U8", [1 << 40], 0, 1 << 40)}).encode() + b"\n")
save("safetensors", "twice", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
     b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}\n' + bytes(2))
save("safetensors", "deep", b"[" * 3000)
save("safetensors", "whole_file", b"\xff" + struct.pack("<Q", 2) + b"{}")
save("safetensors", "whole_huge", b"\xff" + struct.pack("<Q", 1 << 63) + b"{}")


def proto(number, payload):
    if isinstance(payload, int):
        return bytes([number << 3, payload])
    if isinstance(payload, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", payload)
    return bytes([number << 3 | 2, len(payload)]) + payload


pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<0x41>", 0.0, 6), ("\u2581a", -1.5, 1), ("b", -2.0, 1)]
model = b"".join(proto(1, proto(1, t.encode()) + proto(2, s) + proto(3, k)) for t, s, k in pieces)
save("pieces", "spm", model + proto(2, proto(3, 2)) + proto(3, proto(3, 0)))
save("pieces", "spm_unigram", model + proto(2, proto(3, 1)))
container = b"MTOK" + struct.pack("<I", 12) + b"spiece.model"
unigram = model + proto(2, proto(3, 1)) + proto(3, proto(3, 1) + proto(4, 1))
save("tokenizer", "spiece", container + struct.pack("<Q", len(unigram)) + unigram + b"\0a b \xc3\xa9")
save("pieces", "spm_long_varint", b"\x0a" + b"\xff" * 12)
bpe = {"model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>",
                 "vocab": {"<unk>": 0, "<s>": 1, "<0x41>": 2, "a": 3, "b": 4, "ab": 5, "abb": 6},
                 "merges": [["a", "b"], "ab b"]},
       "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}]},
       "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "never"},
       "added_tokens": [{"id": 1, "content": "<s>", "special": True}, {"id": 9, "content": "<|x|>", "special": False}],
       "table": {"10": {"content": "y", "special": False}, "-3": {"content": "z"}}}
save("pieces", "json_spm", json.dumps(bpe).encode())
bpe["model"]["byte_fallback"] = False
bpe["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                              {"type": "ByteLevel", "use_regex": True}]}
save("pieces", "json_bytes", json.dumps(bpe).encode())
