"""Networks for text of every kind, of random weights and small enough for tests."""

from __future__ import annotations

import pytest

WORDS = ["<pad>", "<unk>", "<s>", "</s>", *(f"w{i}" for i in range(92))]
N_WORDS = len(WORDS)

_BERT = {
    "vocab_size": N_WORDS, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 40, "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3,
}  # fmt: skip
_GPT = {"vocab_size": N_WORDS, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 40,
        "bos_token_id": 2, "eos_token_id": 3}  # fmt: skip
_T5 = {"vocab_size": N_WORDS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2}
_XLM = {"vocab_size": N_WORDS, "emb_dim": 16, "n_layers": 3, "n_heads": 2,
        "max_position_embeddings": 40}  # fmt: skip
_DECODER = {**_BERT, "num_key_value_heads": 1}
_RELATIVE = {**_BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_BART = {
    "vocab_size": N_WORDS, "d_model": 16, "encoder_layers": 3, "decoder_layers": 3,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 40, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
_GROUPS = ("q", "k", "v", "post_attention", "intermediate", "output")

# By model_type; a word behind it tells two of one type apart.
CONFIGS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": {**_BERT, "embedding_size": 16},
    "electra narrow": {**_BERT, "embedding_size": 8},
    "mpnet": _BERT,
    "distilbert": {"vocab_size": N_WORDS, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24,
                   "max_position_embeddings": 40},
    "deberta": _RELATIVE,
    "deberta-v2": {**_RELATIVE, "position_buckets": 8},
    "gpt2": _GPT,
    "modernbert": {**_BERT, "global_attn_every_n_layers": 2, "local_attention": 4},
    "nomic_bert": _BERT,
    "eurobert": {**_BERT, "num_key_value_heads": 2, "mask_token_id": 1},
    "mobilebert": {**_BERT, "embedding_size": 8, "intra_bottleneck_size": 8,
                   "num_feedforward_networks": 1},
    "longformer": {**_BERT, "attention_window": [4] * 3},
    "big_bird": {**_BERT, "attention_type": "block_sparse"},
    "rembert": {**_BERT, "input_embedding_size": 8},
    "fnet": _BERT,
    "convbert": {**_BERT, "embedding_size": 8, "conv_kernel_size": 3},
    "ernie": _BERT,
    "data2vec-text": _BERT,
    "qwen2": _DECODER,
    "llama": _DECODER,
    "t5": _T5,
    # Rarer ones.
    "layoutlm": _BERT,
    "megatron-bert": _BERT,
    "roberta-prelayernorm": _BERT,
    "roformer": {**_BERT, "embedding_size": 16},
    "ibert": _BERT,
    "xmod": {**_BERT, "languages": ["en_XX"], "default_language": "en_XX"},
    "qwen3": {**_DECODER, "head_dim": 8},
    "mistral": _DECODER,
    "gemma": {**_DECODER, "head_dim": 8},
    "gemma3_text": {**_DECODER, "head_dim": 8},
    "phi": _BERT,
    "gpt_neox": _BERT,
    "gptj": {**_GPT, "rotary_dim": 4},
    "opt": {"vocab_size": N_WORDS, "hidden_size": 16, "num_hidden_layers": 3,
            "num_attention_heads": 2, "ffn_dim": 24, "max_position_embeddings": 40,
            "word_embed_proj_dim": 16},
    "bloom": {"vocab_size": N_WORDS, "hidden_size": 16, "n_layer": 3, "n_head": 2},
    "mt5": _T5,
    "bart": _BART,
    "albert": {**_BERT, "embedding_size": 8},
    "xlnet": {"vocab_size": N_WORDS, "d_model": 16, "n_layer": 3, "n_head": 2, "d_inner": 24},
    "xlm": _XLM,
    "flaubert": _XLM,
    "squeezebert": {**_BERT, "embedding_size": 16, **{f"{one}_groups": 1 for one in _GROUPS}},
}  # fmt: skip


def small_model(kind: str = "bert", **changes):
    """A model of transformers with small random weights, always the same ones."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    name = kind.split()[0]
    if name not in transformers.CONFIG_MAPPING:
        pytest.skip(f"this version of transformers has no {name}")
    config = transformers.AutoConfig.for_model(name, **{**CONFIGS[kind], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModel.from_config(config).eval()


def small_tokenizer():
    """One token for each word, between ``<s>`` and ``</s>``."""
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(WORDS[:4])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[("<s>", 2), ("</s>", 3)],
    )
    return made


def words(n: int, *, seed: int = 0) -> str:
    """A text of so many words that the small tokenizer knows."""
    import numpy as np

    return " ".join(f"w{i}" for i in np.random.default_rng(seed).integers(0, 92, n))
