"""What a published folder says about itself → the catalogue's words for it, and a refusal by name where they do not suffice.

Text models are read as sentence-transformers reads them: modules.json, the pooling and dense configs it names,
config_sentence_transformers.json (prompts), sentence_bert_config.json (length); CLIP and SigLIP by preprocessor_config.json. No code of
the folder is ever run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.catalog import ImageInput, Model
from bench.core.errors import BenchError
from bench.plan.preprocess import DOCUMENT_PROMPTS

#: `model_type` of config.json → ours; both towers where it has two.
ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "bert": ("bert",),
    "xlm-roberta": ("xlm_roberta",),
    "gemma3_text": ("gemma3_embedding",),
    "qwen3": ("qwen3",),
    "clip": ("clip_vision", "clip_text"),
    "siglip": ("siglip_vision", "siglip_text"),
}
POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
#: Older files have a flag for each.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
#: Longer texts are cut, as for the models of the catalogue.
TOKENS_AT_MOST = 512
FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class Folder:
    """A published folder and its JSON files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = self.read("config.json")

    def read(self, name: str, needed: bool = True) -> Any:
        """The value of a JSON file; an empty mapping where it need not be there and is not."""
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if needed:
                raise self.refusal(f"it has no {name}") from None
            return {}
        except (OSError, ValueError) as error:
            raise self.refusal(f"{name} cannot be read ({' '.join(str(error).split())[:120]})") from None

    def refusal(self, reason: str) -> BenchError:
        return BenchError(f"{self.path}: {reason}; write its catalogue entry by hand if it fits one of ours (CONTRIBUTING.md, Add a model)")


def read(path: Path, named: Model) -> list[Model]:
    """The folder's models: one, or one per tower. `named` lends name, title, licence, address and weights.

    Raises:
        BenchError: an architecture, module, pooling or processor that is not one of ours, by its name.
    """
    folder = Folder(path)
    model_type = str(folder.config.get("model_type"))
    if model_type not in ARCHITECTURES:
        raise BenchError(
            f"{path}: architecture {model_type!r} is not one of ours ({', '.join(ARCHITECTURES)}); CONTRIBUTING.md says how to add one"
        )
    _refuse_what_the_name_hides(folder, model_type)
    if len(ARCHITECTURES[model_type]) == 1:
        return [_counted(_tokens_agree(_text(folder, named, ARCHITECTURES[model_type][0]), folder), folder)]
    image = replace(named, name=f"{named.name}-image", title=f"{named.title}, images", group=named.name)
    text = replace(named, name=f"{named.name}-text", title=f"{named.title}, texts", group=named.name)
    return [
        _counted(_image_tower(folder, image, model_type), folder),
        _counted(_tokens_agree(_text_tower(folder, text, model_type), folder), folder),
    ]


def _refuse_what_the_name_hides(folder: Folder, model_type: str) -> None:
    """Variants of an architecture that share its `model_type` and compute something else."""
    config = folder.config
    if config.get("auto_map"):
        raise folder.refusal(f"{model_type} with code of its own (auto_map), which is never run")
    if config.get("quantization_config"):
        raise folder.refusal("its weights are quantised (quantization_config); take the checkpoint it was made from")
    if config.get("is_decoder") or config.get("position_embedding_type", "absolute") != "absolute":
        raise folder.refusal(f"{model_type} as a decoder, or with positions other than absolute")
    if model_type == "gemma3_text" and not config.get("use_bidirectional_attention"):
        raise folder.refusal("gemma3_text with causal attention (use_bidirectional_attention is not set)")
    if model_type == "qwen3" and config.get("use_sliding_window"):
        raise folder.refusal("qwen3 with sliding windows")


def _text(folder: Folder, named: Model, architecture: Any) -> Model:
    """A text model in the layout of sentence-transformers."""
    pooling, width = _pooling(folder)
    dim = _dense(folder, width, architecture)
    own = _own_length(folder)
    return replace(
        named, modality="text", architecture=architecture, pooling=pooling, dim=dim, max_tokens=min(own, TOKENS_AT_MOST),
        pad_id=_pad_id(folder), prompts=_prompts(folder),
    )  # fmt: skip


def _modules(folder: Folder) -> list[tuple[str, str]]:
    """Kind and folder of each module: Transformer, Pooling, Dense …, and Normalize or not (our vectors always have length 1)."""
    if not (folder.path / "modules.json").is_file():
        raise folder.refusal("it has no modules.json, so its pooling is not stated")
    found = []
    for entry in folder.read("modules.json"):
        package, _, kind = str(entry.get("type")).rpartition(".")
        if not package.startswith("sentence_transformers.") or kind not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise folder.refusal(f"module {entry.get('type')!r} is not one of ours (Transformer, Pooling, Dense, Normalize)")
        found.append((kind, str(entry.get("path") or "")))
    kinds = [kind for kind, _ in found]
    inner = kinds[2:-1] if kinds[-1:] == ["Normalize"] else kinds[2:]
    if kinds[:2] != ["Transformer", "Pooling"] or set(inner) - {"Dense"}:
        raise folder.refusal(f"modules in the order {', '.join(kinds)}; ours is Transformer, Pooling, Dense …, Normalize")
    if found[0][1]:
        raise folder.refusal(f"its Transformer lies in {found[0][1]}/; only a checkpoint at the root is read")
    return found


def _pooling(folder: Folder) -> tuple[Any, int]:
    """Ours, and the width of what is pooled."""
    config = folder.read(f"{_modules(folder)[1][1]}/config.json")
    stated = config.get("pooling_mode") or [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or "mean"
    modes = [stated] if isinstance(stated, str) else list(stated)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise folder.refusal(f"pooling {' + '.join(map(str, modes))} is not one of ours ({', '.join(POOLINGS)})")
    if config.get("include_prompt") is False and any(_prompts(folder).values()):
        raise folder.refusal("its pooling leaves the prompt's tokens out (include_prompt)")
    return POOLINGS[modes[0]], int(config.get("embedding_dimension") or config["word_embedding_dimension"])


def _dense(folder: Folder, width: int, architecture: str) -> int:
    """The dimension after the dense modules, which only EmbeddingGemma has here: two, without bias or activation."""
    places = [place for kind, place in _modules(folder) if kind == "Dense"]
    if architecture != "gemma3_embedding":
        if places:
            raise folder.refusal(f"dense module {places[0]} after {architecture}; only EmbeddingGemma's two are known")
        return width
    configs = [folder.read(f"{place}/config.json") for place in places]
    for place, config in zip(places, configs, strict=True):
        activation = str(config.get("activation_function")).rpartition(".")[2]
        if config.get("bias", True) or activation != "Identity" or config.get("use_residual"):
            raise folder.refusal(f"dense module {place} with a bias, a residual or the activation {activation}; ours is a bare matrix")
    widths = [width, *(int(config["out_features"]) for config in configs)]
    if places != ["2_Dense", "3_Dense"] or widths[1] != 4 * widths[2]:
        raise folder.refusal(f"dense modules {', '.join(places) or 'none'} of widths {widths}; ours are 2_Dense to 4 × dim, 3_Dense to dim")
    return widths[2]


def _own_length(folder: Folder) -> int:
    """The most tokens that sentence-transformers would take, and that the model has positions for."""
    config = folder.config
    positions = int(config.get("max_position_embeddings", TOKENS_AT_MOST))
    if config["model_type"] == "xlm-roberta":
        positions -= int(config.get("pad_token_id", 1)) + 1
    settings: dict[str, Any] = {}
    for file in sorted(folder.path.glob("sentence_*_config.json")):
        settings |= folder.read(file.name)
    if settings.get("transformer_task", "feature-extraction") != "feature-extraction" or settings.get("query_expansion"):
        raise folder.refusal("its Transformer module does more than give token vectors (transformer_task, query_expansion)")
    if settings.get("do_lower_case") and "lowercase" not in json.dumps(folder.read("tokenizer.json").get("normalizer")).lower():
        raise folder.refusal("it lower-cases texts before its tokenizer does (do_lower_case)")
    tokenizer = folder.read("tokenizer_config.json", False).get("model_max_length")
    limits = (settings.get("document_length"), settings.get("max_seq_length") or tokenizer)
    return min([positions, *(int(limit) for limit in limits if limit)])


def _prompts(folder: Folder) -> dict[str, str]:
    """As stored; where none is for documents, the one that the authors made the default stands for it."""
    config = folder.read("config_sentence_transformers.json", False)
    if config.get("truncate_dim"):
        raise folder.refusal(f"its vectors are cut to {config['truncate_dim']} dimensions (truncate_dim)")
    prompts = {str(name): str(prompt) for name, prompt in (config.get("prompts") or {}).items() if prompt is not None}
    default = config.get("default_prompt_name")
    if default and not set(DOCUMENT_PROMPTS) & set(prompts):
        if default not in prompts:
            named = ", ".join(map(repr, prompts)) or "none"
            place = f"{folder.path}/config_sentence_transformers.json"
            raise BenchError(f"{place}: default_prompt_name {default!r} is not among its prompts ({named}); name one of them, or add it")
        prompts["document"] = prompts[default]
    return prompts if any(prompts.values()) else {}


def _pad_id(folder: Folder) -> int:
    """The tokenizer's padding token; the config's number only where the tokenizer names none (CLIP's is of another token)."""
    vocabulary = folder.read("tokenizer.json")
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        token = folder.read(file, False).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token:
            import tokenizers

            number = tokenizers.Tokenizer.from_str(json.dumps(vocabulary)).token_to_id(token)
            if number is None:
                raise folder.refusal(f"its tokenizer.json does not know its own padding token {token!r}")
            return int(number)
    padding = vocabulary.get("padding") or {}
    return int(padding.get("pad_id", folder.config.get("pad_token_id") or 0))


def _image_tower(folder: Folder, named: Model, family: str) -> Model:
    image = _image_input(folder, family)
    width = folder.config.get("projection_dim", 512) if family == "clip" else folder.config["vision_config"].get("hidden_size", 768)
    architecture: Any = f"{family}_vision"
    pooling: Any = "cls" if family == "clip" else "attention"
    return replace(named, modality="image", architecture=architecture, pooling=pooling, dim=int(width), image=image)


def _text_tower(folder: Folder, named: Model, family: str) -> Model:
    published = folder.config["text_config"]
    if family == "clip":
        length, fixed, width = int(published.get("max_position_embeddings", 77)), None, folder.config.get("projection_dim", 512)
    else:
        length = fixed = int(published.get("max_position_embeddings", 64))
        width = published.get("projection_size") or published.get("hidden_size", 768)
    architecture: Any = f"{family}_text"
    return replace(
        named, modality="text", architecture=architecture, pooling="last", dim=int(width), max_tokens=length, fixed_tokens=fixed,
        pad_id=_pad_id(folder),
    )  # fmt: skip


def _image_input(folder: Folder, family: str) -> ImageInput:
    """CLIP: the short side to size, then the centre; SigLIP: both sides to size."""
    config = folder.read("preprocessor_config.json", False) or folder.read("processor_config.json", False).get("image_processor", {})
    if not config:
        raise folder.refusal("it has no preprocessor_config.json, so the preparation of images is not stated")
    size, crop = config.get("size"), config.get("crop_size")
    sides = {int(side) for value in (size, crop) if value for side in (value.values() if isinstance(value, dict) else [value])}
    cropped = bool(config.get("do_center_crop", family == "clip"))
    wanted = int(folder.config["vision_config"].get("image_size", 224))
    short = cropped and (not isinstance(size, dict) or set(size) == {"shortest_edge"})
    exact = not cropped and (not isinstance(size, dict) or set(size) == {"height", "width"})
    plain = all(config.get(step, True) for step in ("do_resize", "do_rescale", "do_normalize"))
    if not plain or not (short or exact) or sides != {wanted} or abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-9:
        raise folder.refusal(f"its images are prepared in another way than ours (size {size}, crop_size {crop}, centre crop {cropped})")
    resample = config.get("resample", 3)
    if resample not in FILTERS:
        raise folder.refusal(f"its images are resized by Pillow's filter {resample}; ours are bilinear (2) and bicubic (3)")
    mean, std = config["image_mean"], config["image_std"]
    return ImageInput(wanted, "short" if short else "exact", FILTERS[resample], tuple(mean), tuple(std))  # type: ignore[arg-type]


SAMPLES = ("", "A quick brown Fox, isn't it?", "def f(x):\n    return x ** 2", "Ärger, naïve café: 今日は良い天気ですね 🙂", "word " * 600)


def _tokens_agree(model: Model, folder: Folder) -> Model:
    """tokenizer.json alone is read here; some tokenizer classes do more to a text than it says.

    Raises:
        BenchError: they give other tokens.
    """
    from transformers import AutoTokenizer

    from bench.plan import preprocess

    stated = folder.read("tokenizer_config.json", False).get("truncation_side")
    direction = (folder.read("tokenizer.json").get("truncation") or {}).get("direction")
    if stated == "left" or direction == "Left":
        file, key = ("tokenizer_config.json", "truncation_side") if stated == "left" else ("tokenizer.json", "truncation.direction")
        raise BenchError(f"{folder.path}/{file}: {key}: long texts are cut on the left; only models that are cut on the right are measured")
    ours = preprocess.Tokenizer(replace(model, prompts={}), folder.path)
    try:
        theirs = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever its class raises
        raise folder.refusal(f"transformers cannot load its tokenizer ({' '.join(str(error).split())[:120]})") from None
    fixed = {"padding": "max_length"} if model.fixed_tokens else {}
    for text in SAMPLES:
        expected = theirs(text, truncation=True, max_length=ours.max_tokens, padding_side="right", **fixed)["input_ids"]
        if ours.encode(text).tolist() != list(expected):
            raise folder.refusal(f"its {type(theirs).__name__} gives other tokens than its tokenizer.json")
    return model


def _counted(model: Model, folder: Folder) -> Model:
    """With its number of parameters, those that take part in a vector."""
    import math

    from bench.model import state_dict

    shapes = state_dict.shapes(state_dict.config(model, folder.path))
    return replace(model, parameters=sum(math.prod(shape) for shape in shapes.values()))
