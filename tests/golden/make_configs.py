"""Writes configs.json: config.json files in old and new conventions, and what transformers makes of them.
python3 make_configs.py > configs.json      (transformers 5.23.0)"""
import json
import transformers
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=2048, intermediate_size=8192,
             num_hidden_layers=4, num_attention_heads=32, num_key_value_heads=8, vocab_size=128256,
             max_position_embeddings=131072, rms_norm_eps=1e-5, bos_token_id=128000, eos_token_id=[128001, 128008, 128009])
QWEN = dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=896, intermediate_size=4864,
            num_hidden_layers=6, num_attention_heads=14, num_key_value_heads=2, vocab_size=151936,
            max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1000000.0, bos_token_id=151643, eos_token_id=151645)
LONG = [1.0 + 0.5 * i for i in range(48)]
SHORT = [1.0 + 0.01 * i for i in range(48)]
PHI = dict(architectures=["Phi3ForCausalLM"], model_type="phi3", hidden_size=3072, intermediate_size=8192,
           num_hidden_layers=2, num_attention_heads=32, num_key_value_heads=32, vocab_size=32064,
           max_position_embeddings=131072, original_max_position_embeddings=4096, rms_norm_eps=1e-5,
           bos_token_id=1, eos_token_id=32000, sliding_window=262144)
OSS = dict(architectures=["GptOssForCausalLM"], model_type="gpt_oss", hidden_size=2880, intermediate_size=2880,
           num_hidden_layers=4, num_attention_heads=64, num_key_value_heads=8, vocab_size=201088, head_dim=64,
           num_local_experts=32, num_experts_per_tok=4, max_position_embeddings=131072, rms_norm_eps=1e-5,
           sliding_window=128, eos_token_id=200002, attention_bias=True, swiglu_limit=7.0,
           quantization_config={"quant_method": "mxfp4"})
GEMMA3 = dict(hidden_size=2560, intermediate_size=10240, model_type="gemma3_text", num_hidden_layers=7,
              rope_scaling={"factor": 8.0, "rope_type": "linear"}, sliding_window=1024)

CASES = {
    "llama without head_dim or scaling": dict(LLAMA, rope_theta=500000.0),
    "llama3 scaling, old": dict(LLAMA, rope_theta=500000.0, tie_word_embeddings=True, head_dim=64, rope_scaling=dict(
        factor=32.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=8192, rope_type="llama3")),
    "llama3 scaling, new": dict(LLAMA, rope_parameters=dict(rope_theta=500000.0, factor=8.0, high_freq_factor=4.0,
        low_freq_factor=1.0, original_max_position_embeddings=8192, rope_type="llama3")),
    "linear scaling, oldest": dict(LLAMA, rope_scaling={"type": "linear", "factor": 4.0}, num_key_value_heads=None),
    "dynamic scaling": dict(LLAMA, rope_scaling={"type": "dynamic", "factor": 2.0}),
    "mistral v0.1": dict(LLAMA, architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=4096),
    "mistral v0.3": dict(LLAMA, architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=None),
    "mistral without the key": dict(LLAMA, architectures=["MistralForCausalLM"], model_type="mistral"),
    "mixtral": dict(LLAMA, architectures=["MixtralForCausalLM"], model_type="mixtral", num_local_experts=8,
                    num_experts_per_tok=2, sliding_window=None, rope_theta=1e6),
    "qwen2": dict(QWEN, use_sliding_window=False, sliding_window=32768, max_window_layers=21),
    "qwen2 with windows": dict(QWEN, use_sliding_window=True, sliding_window=4096, max_window_layers=4),
    "qwen2 yarn, old": dict(QWEN, rope_scaling={"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}),
    "qwen2 yarn, given factor": dict(QWEN, rope_scaling={"factor": 4.0, "original_max_position_embeddings": 32768,
                                                        "rope_type": "yarn", "attention_factor": 0.75, "beta_fast": 16}),
    "qwen2 yarn, mscale": dict(QWEN, rope_scaling={"factor": 40.0, "original_max_position_embeddings": 4096,
                                                  "rope_type": "yarn", "mscale": 0.7, "mscale_all_dim": 1.0}),
    "qwen3": dict(QWEN, architectures=["Qwen3ForCausalLM"], model_type="qwen3", attention_bias=False),
    "qwen3 moe": dict(QWEN, architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", head_dim=128, num_experts=128,
                      num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True, decoder_sparse_step=2,
                      mlp_only_layers=[3], num_key_value_heads=7),
    "gemma2": dict(architectures=["Gemma2ForCausalLM"], model_type="gemma2", hidden_size=2304, intermediate_size=9216,
                   num_hidden_layers=5, num_attention_heads=8, num_key_value_heads=4, head_dim=256, vocab_size=256000,
                   max_position_embeddings=8192, rms_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh",
                   hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=224, sliding_window=4096,
                   attn_logit_softcapping=50.0, final_logit_softcapping=30.0, bos_token_id=2, eos_token_id=1),
    "gemma3 multimodal, old": dict(architectures=["Gemma3ForConditionalGeneration"], model_type="gemma3",
                                   eos_token_id=[1, 106], bos_token_id=2, text_config=GEMMA3,
                                   vision_config={"model_type": "siglip_vision_model", "hidden_size": 1152}),
    "gemma3 text, old": dict(GEMMA3, architectures=["Gemma3ForCausalLM"], num_attention_heads=4, num_key_value_heads=1,
                             rope_scaling=None, rope_theta=1000000, rope_local_base_freq=10000, sliding_window=512,
                             sliding_window_pattern=3, eos_token_id=[1, 106], vocab_size=262144),
    "phi3 128k, oldest": dict(PHI, rope_scaling={"type": "su", "original_max_position_embeddings": 4096, "long_factor": LONG, "short_factor": SHORT}, rope_theta=10000.0),
    "phi4 mini": dict(PHI, num_attention_heads=24, num_key_value_heads=8, partial_rotary_factor=0.75, rope_scaling={
        "type": "longrope", "long_factor": LONG, "short_factor": SHORT}, rope_theta=10000.0),
    "phi3, new": dict(PHI, rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "long_factor": LONG,
                      "short_factor": SHORT, "attention_factor": 1.5, "partial_rotary_factor": 1.0}),
    "gpt-oss, old": dict(OSS, rope_theta=150000, experts_per_token=4, rope_scaling=dict(beta_fast=32.0, beta_slow=1.0,
                         factor=32.0, original_max_position_embeddings=4096, rope_type="yarn", truncate=False)),
}

SCALING = {"default": 0, "dynamic": 0, "linear": 1, "llama3": 2, "yarn": 3, "longrope": 4}

def rope(c, p, layer_type=None):
    kind = p.get("rope_type", "default")
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    out = dict(scaling=SCALING[kind], base=p["rope_theta"], attn_factor=1.0,
               n_rot=int(head_dim * p.get("partial_rotary_factor", 1.0)))
    if kind not in ("default", "dynamic"):
        _, out["attn_factor"] = ROPE_INIT_FUNCTIONS[kind](c, "cpu", layer_type=layer_type)
    if kind in ("linear", "yarn", "llama3"):
        out["factor"] = p["factor"]
    if kind in ("yarn", "llama3", "longrope"):
        out["original"] = p["original_max_position_embeddings"]
    if kind == "yarn":
        out.update(truncate=p.get("truncate", True), beta_fast=p.get("beta_fast") or 32)
    return out

def expect(config):
    top = AutoConfig.for_model(**{k: v for k, v in config.items() if k != "quantization_config"})
    c = top.get_text_config()
    p = c.rope_parameters
    ropes = [rope(c, p[t], t) for t in ("full_attention", "sliding_attention")] if "full_attention" in p else [rope(c, p)] * 2
    kinds = getattr(c, "layer_types", None)
    window = getattr(c, "sliding_window", None)
    if c.model_type == "llama":
        window = None
    moe = getattr(c, "num_experts", 0) or 0
    sparse = lambda i: bool(moe) and (c.model_type != "qwen3_moe" or
        (i not in c.mlp_only_layers and (i + 1) % c.decoder_sparse_step == 0))
    n = c.num_hidden_layers
    eos = top.eos_token_id if top.eos_token_id is not None else c.eos_token_id
    return dict(dim=c.hidden_size, n_layers=n, n_heads=c.num_attention_heads, n_kv_heads=c.num_key_value_heads,
                head_dim=getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
                ffn_dim=c.intermediate_size, vocab=c.vocab_size, norm_eps=c.rms_norm_eps, n_experts=moe,
                n_experts_used=c.num_experts_per_tok if moe else 0,
                expert_ffn_dim=(getattr(c, "moe_intermediate_size", None) or c.intermediate_size) if moe else 0,
                window=[(window or 0) if not kinds or kinds[i] == "sliding_attention" else 0 for i in range(n)],
                local=[bool(kinds) and kinds[i] == "sliding_attention" and "full_attention" in p for i in range(n)],
                moe=[sparse(i) for i in range(n)], rope=ropes, eos=eos if isinstance(eos, list) else [eos],
                scalar=getattr(c, "query_pre_attn_scalar", None), softcaps=[
                    getattr(c, "attn_logit_softcapping", None) or 0, getattr(c, "final_logit_softcapping", None) or 0])

out = []
for name, config in CASES.items():
    saved = json.loads(json.dumps(config))          # transformers changes what it is given
    out.append(dict(name=name, config=saved, expect=expect(json.loads(json.dumps(config)))))
    new = AutoConfig.for_model(**json.loads(json.dumps({k: v for k, v in saved.items() if k != "quantization_config"})))
    text = json.loads(new.to_json_string())         # as this version would save it
    out.append(dict(name=name + ", saved again", config=text, expect=out[-1]["expect"]))
print(json.dumps({"transformers": transformers.__version__, "cases": out}, separators=(",", ":")))
