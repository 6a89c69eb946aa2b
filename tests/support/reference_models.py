"""Small models as their authors' own libraries write them: made by transformers and sentence-transformers, none of it by this project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.support import tiny

#: w0 and w1 are padding tokens of some: written out inside a text they are tokens of it.
WORDS = [f"w{number}" for number in range(tiny.VOCABULARY)]
UNKNOWN, END, START = 3, 299, 2
TEXTS = ["", "w7", "w5 w9 w200", "w44 w45 w46 w47 w48 w49 w50 w51 w52 w53 w54", "w8 nonsense w8", "w6 w1 w0 w9", " ".join(WORDS[60:160])]
#: architecture → pooling (as sentence-transformers calls it), padding token, prompts
POOLING = {"bert": "mean", "xlm_roberta": "cls", "gemma3_embedding": "mean", "qwen3": "lasttoken"}
PADDING = {"bert": 0, "xlm_roberta": 1, "gemma3_embedding": 0, "qwen3": END, "clip": END, "siglip": 1}
PROMPTS = {
    "gemma3_embedding": {"query": "w11 w12 ", "document": "w13 w14 w15 "},
    "qwen3": {"query": "w21 w22 w23 ", "document": ""},
    "bert": {"query": "w31 ", "passage": "w32 w33 "},
}
LENGTH = 40


def tokenizer(family: str) -> Any:
    """Whole words. It ends (and, but for qwen3 and siglip, starts) a text with a token of its own, and for qwen3 pads on the left."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = tokenizers.Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token=WORDS[UNKNOWN]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    start = "" if family in ("qwen3", "siglip") else f"{WORDS[START]} "
    special = [(WORDS[START], START), (WORDS[END], END)]
    words.post_processor = processors.TemplateProcessing(single=f"{start}$A {WORDS[END]}", special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token=WORDS[UNKNOWN],
        eos_token=WORDS[END],
        pad_token=WORDS[PADDING[family]],
        padding_side="left" if family == "qwen3" else "right",
    )


def parted(model: Any) -> Any:
    """With numbers large enough that different texts get different vectors."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(
                    0, 1.2 * (2 if "q_proj" in name or "k_proj" in name or "query" in name else 1) / parameter[0].numel() ** 0.5
                )
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def text_model(architecture: str, folder: Path, **saving: Any) -> Path:
    """A sentence-transformers model on disk, saved by it; `saving` goes to the backbone's `save_pretrained`."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoConfig, AutoModel

    base = folder / "base"
    config = dict(tiny.CONFIGS[architecture])
    backbone = parted(AutoModel.from_config(AutoConfig.for_model(**config)))
    backbone.save_pretrained(base)
    tokenizer(architecture).save_pretrained(base)
    modules: list[Any] = [Transformer(str(base), max_seq_length=LENGTH), Pooling(32, POOLING[architecture])]
    if architecture == "gemma3_embedding":
        identity = torch.nn.Identity()
        modules += [Dense(32, 96, bias=False, activation_function=identity), Dense(96, 24, bias=False, activation_function=identity)]
    model = SentenceTransformer(modules=[*modules, Normalize()], prompts=PROMPTS.get(architecture, {}), device="cpu")
    model.save(str(folder / "saved"))
    if saving:
        (folder / "saved" / "model.safetensors").unlink()
        backbone.save_pretrained(folder / "saved", **saving)
    return folder / "saved"


def two_towers(family: str, folder: Path) -> Path:
    """CLIP or SigLIP with its processor, saved by transformers."""
    import transformers

    size = {"height": 32, "width": 32}
    text, vision = dict(tiny.CONFIGS[f"{family}_text"]), dict(tiny.CONFIGS[f"{family}_vision"])
    if family == "clip":
        text["eos_token_id"] = END
        config: Any = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        model: Any = transformers.CLIPModel(config)
        images: Any = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    else:
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        images = transformers.SiglipImageProcessor(size=size)
    parted(model).save_pretrained(folder)
    images.save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    return folder


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
