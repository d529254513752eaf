"""A tiny model of transformers, built on the spot: random weights, a byte-level tokeniser trained on a few lines."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
LINES = [
    "What is six times seven? The answer is 42, and nothing else.",
    "A dragon who cannot fly walks, and walks, and walks.\n\nIt says: ç is a letter, 漢字 are two.",
]


def build(path: Path, *, seed: int, blur: float = 0.0, template: str | None = TEMPLATE, words: int = 330) -> str:
    """Save one under ``path``. What comes next depends mostly on the last token, so that greedy texts run in circles.

    ``blur`` adds noise to its weights: the same seed with some makes a model that draws much the same.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|start|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(LINES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 0.1
            layer.mlp.down_proj.weight *= 0.1
        model.lm_head.weight *= 3
        for weight in model.parameters() if blur else ():
            weight += blur * torch.randn_like(weight)
        model.lm_head.weight[tokenizer.eos_token_id] = 0.0  # it seldom ends by itself
    model.save_pretrained(path)
    return str(path)
