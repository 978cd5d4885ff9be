#!/usr/bin/env python3
"""peer_llama.py - Muster's speed next to llama.cpp's: same file, same cores, in alternation.

Development only; nothing in the build or the tests needs it. The peer is the `llama-cpp-python`
package, built from source for this machine:

    CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python

(GCC 12 drops the stores before _tile_loadconfig, so on a processor with AMX the package crashes unless
it is built with another compiler, or with a compiler barrier before that call in ggml's amx/mmq.cpp.)

    tests/bench/peer_llama.py --model F.gguf [--muster build/muster] [--threads 2] [--rounds 7]

Prints the medians of prefill of 256 tokens, decode of 16 sequences and decode of 1, and the ratios.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

CASES = ("prefill256", "decode16", "decode1")


def peer_round(model_path, threads, tokens):
    """One process of the peer: tokens per second of each case. Runs in a child, as Muster does."""
    import llama_cpp as L

    L.llama_backend_init()
    quiet = L.llama_log_callback(lambda *a: None)
    L.llama_log_set(quiet, None)
    model = L.llama_model_load_from_file(model_path.encode(), L.llama_model_default_params())
    params = L.llama_context_default_params()
    params.n_ctx = 16 * 512
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = 16
    params.n_threads = params.n_threads_batch = threads
    params.kv_unified = False
    context = L.llama_init_from_model(model, params)
    memory = L.llama_get_memory(context)
    batch = L.llama_batch_init(512, 0, 1)

    def step(rows):
        """rows: (token, position, sequence, wants logits)."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = logits
        if L.llama_decode(context, batch) != 0:
            sys.exit("peer_llama.py: llama_decode failed")
        L.llama_synchronize(context)

    def token(i):
        return 300 + i * 7919 % 200

    def prefill(n):
        step([(token(i), i, 0, i == n - 1) for i in range(n)])

    def decode(n_sequences, n_steps):
        for s in range(n_sequences):
            step([(token(i + s), i, s, i == 15) for i in range(16)])
        start = time.perf_counter()
        for t in range(n_steps):
            step([(token(t + s), 16 + t, s, True) for s in range(n_sequences)])
        return n_sequences * n_steps / (time.perf_counter() - start)

    prefill(256)  # warm: pages of the file, threads, scratch
    L.llama_memory_clear(memory, True)
    start = time.perf_counter()
    prefill(256)
    out = {"prefill256": 256 / (time.perf_counter() - start)}
    L.llama_memory_clear(memory, True)
    out["decode16"] = decode(16, tokens)
    L.llama_memory_clear(memory, True)
    out["decode1"] = decode(1, tokens)
    out["version"] = L.__version__
    out["system"] = L.llama_print_system_info().decode()
    print(json.dumps(out))


def muster_round(muster, model, threads, tokens):
    """One `muster bench`, as a user would run it."""
    command = [muster, "bench", "-m", model, "--threads", str(threads), "--json", "--prefill", "256",
               "--decode", str(tokens), "--sequences", "16,1", "--repeat", "1"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: {run.stderr}")
    many, one = json.loads(run.stdout)["runs"]
    out = {"prefill256": many["prefill"]["tokens_per_s"], "decode16": many["decode"]["tokens_per_s"],
           "decode1": one["decode"]["tokens_per_s"]}
    # How much of the rate at which the same threads read the same weights one sequence reaches.
    out["read_share"] = one["decode"]["ranks"][0]["read_share"]
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--muster", default="build/muster")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--tokens", type=int, default=24, help="steps of each decode measurement")
    p.add_argument("--peer-only", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peer_only:
        peer_round(a.model, a.threads, a.tokens)
        return
    child = [sys.executable, __file__, "--model", a.model, "--threads", str(a.threads), "--tokens",
             str(a.tokens), "--peer-only"]
    ours, peers = [], []
    for _ in range(a.rounds):
        peers.append(json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout))
        ours.append(muster_round(a.muster, a.model, a.threads, a.tokens))
    print(f"peer: llama-cpp-python {peers[0]['version']} ({peers[0]['system'].strip()})")
    print(f"{a.model}, {a.threads} threads, medians of {a.rounds} alternating rounds, tokens/s")
    print(f"{'case':<12}{'muster':>10}{'peer':>10}{'ratio':>8}   range of the ratio, round by round")
    for case in CASES:
        m = statistics.median(r[case] for r in ours)
        q = statistics.median(r[case] for r in peers)
        ratios = sorted(o[case] / r[case] for o, r in zip(ours, peers))
        print(f"{case:<12}{m:>10.1f}{q:>10.1f}{m / q:>8.2f}   {ratios[0]:.2f} - {ratios[-1]:.2f}")
    print(f"decode1 reads the weights at {statistics.median(o['read_share'] for o in ours):.2f} of the "
          "rate measured beside it")


if __name__ == "__main__":
    main()
