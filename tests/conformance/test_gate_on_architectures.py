"""The parity gate on every architecture: a padded batch of mixed lengths passes, and a wrong pooling, mask or position does not.

The bugs are those that a port of a model makes. They are planted into a tiny Embedder, whose vectors are judged as a worker's are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from bench.catalog import Model
from bench.model import embedder, state_dict
from bench.model.embedder import Embedder
from bench.stats import parity
from tests.support import tiny

pytestmark = pytest.mark.slow

Vectors = npt.NDArray[np.float32]
Plant = Callable[[Embedder], None]
#: Longer than Gemma's window of 8, and down to one token.
LENGTHS = [1, 23, 2, 9, 40, 17]


def pooling(name: str) -> Plant:
    """Another token, or another mean, stands for the row."""

    def plant(module: Embedder) -> None:
        module.pooling = name

    return plant


def pooled_by(pool: Callable[[nn.Module, Tensor], Tensor]) -> Plant:
    """For backbones that pool by themselves: `pool(backbone, hidden)` in place of their own."""

    def plant(module: Embedder) -> None:
        backbone = module.backbone
        own = backbone.forward

        def forward(**inputs: Any) -> Any:
            return SimpleNamespace(pooler_output=pool(backbone, own(**inputs).last_hidden_state))

        backbone.forward = forward

    return plant


def masked_by(change: Callable[[Tensor, bool, int | None], tuple[Tensor, bool, int | None]]) -> Plant:
    """Other arguments to the mask: own tokens, whether causal, the window."""

    def plant(module: Embedder) -> None:
        own = embedder.TextEmbedder._mask

        def mask(own_tokens: Tensor, causal: bool = False, window: int | None = None) -> Tensor:
            changed, causal, window = change(own_tokens, causal, window)
            changed = torch.cat([changed, torch.zeros_like(changed[:, :1])], dim=1)  # one hidden token, so that a mask is always written
            made = own(module, changed, causal, window)
            assert made is not None
            return made[:, :, :-1, :-1]

        module._mask = mask

    return plant


def in_config(**changes: Any) -> Plant:
    """The same weights under another config of the backbone."""

    def plant(module: Embedder) -> None:
        wrong = {**module.config, "backbone": {**module.config["backbone"], **changes}}
        module.backbone = embedder.assemble(wrong, module.state_dict()).backbone

    return plant


def padding_attended(module: Embedder) -> None:
    """SigLIP's text tower sees all of its 64 tokens; here it is given a mask of the text's own."""
    own = module.backbone.forward

    def forward(input_ids: Tensor) -> Any:
        return own(input_ids=input_ids, attention_mask=(input_ids != tiny.PAD_IDS["siglip_text"]).long())

    module.backbone.forward = forward


def positions_shifted(module: Embedder) -> None:
    """Every patch or token gets its neighbour's position."""
    names = [name for name, _ in module.named_parameters() if "position_embedding" in name]
    assert len(names) == 1
    table = module.get_parameter(names[0])
    table.copy_(table.roll(1, dims=0))


def positions_from_nought(module: Embedder) -> None:
    """XLM-RoBERTa counts from its padding id + 1; the usual port counts from 0."""
    own: Any = embedder.TextEmbedder._xlm_roberta

    def arguments(ids: Tensor, mask: Tensor) -> Any:
        given = own(module, ids, mask)
        return {**given, "position_ids": (given["position_ids"] - 2 * mask).clamp(min=0)}

    module._xlm_roberta = arguments


def positions_by_the_mask(module: Embedder) -> None:
    """A padding token that stands in a text gets a position of its own."""
    own: Any = embedder.TextEmbedder._xlm_roberta

    def arguments(ids: Tensor, mask: Tensor) -> Any:
        return {**own(module, ids, mask), "position_ids": mask.cumsum(dim=1) * mask + module.backbone.config.pad_token_id}

    module._xlm_roberta = arguments


UNMASKED = masked_by(lambda mask, causal, window: (torch.ones_like(mask), causal, window))
CAUSAL = masked_by(lambda mask, _causal, window: (mask, True, window))
BIDIRECTIONAL = masked_by(lambda mask, _causal, window: (mask, False, window))

BUGS: Mapping[str, Mapping[str, Plant]] = {
    "bert": {"pooling": pooling("cls"), "padding seen": UNMASKED, "positions": positions_shifted},
    "xlm_roberta": {
        "pooling": pooling("mean"),
        "padding seen": UNMASKED,
        "positions": positions_from_nought,
        "positions by the mask": positions_by_the_mask,
    },
    "gemma3_embedding": {
        "pooling": pooling("last"),
        "padding seen": UNMASKED,
        "causal": CAUSAL,
        "window": masked_by(lambda mask, causal, window: (mask, causal, window and window + 1)),
        "rope": in_config(rope_theta=10000.0),
        "one rope for all layers": in_config(rope_local_base_freq=1000000.0),
    },
    "qwen3": {
        "pooling": pooling("mean"),
        "first token": pooling("cls"),
        "not causal": BIDIRECTIONAL,
        "rope": in_config(rope_theta=10000),
    },
    "clip_text": {"pooling": pooling("mean"), "not causal": BIDIRECTIONAL, "positions": positions_shifted},
    "clip_vision": {
        "pooling": pooled_by(lambda backbone, hidden: backbone.post_layernorm(hidden[:, 1:].mean(1))),
        "no norm after": pooled_by(lambda _, hidden: hidden[:, 0]),
        "positions": positions_shifted,
    },
    "siglip_text": {
        "pooling": pooled_by(lambda backbone, hidden: backbone.head(hidden[:, 0])),
        "no head": pooled_by(lambda _, hidden: hidden[:, -1]),
        "padding masked": padding_attended,
        "positions": positions_shifted,
    },
    "siglip_vision": {"pooling": pooled_by(lambda _, hidden: hidden.mean(1)), "positions": positions_shifted},
}


@dataclass(frozen=True)
class Case:
    """A tiny model on disk, and its vectors of every row alone, without padding."""

    model: Model
    folder: Path
    expected: Vectors

    def module(self) -> Embedder:
        """Fresh, since a bug stays planted."""
        return embedder.assemble(state_dict.config(self.model, self.folder), dict(state_dict.tensors(self.model, self.folder)))

    def complaint(self, module: Embedder) -> str | None:
        """The gate's verdict on all rows in one batch, as for a worker."""
        agreement = parity.compare(vectors(module, together(self.model)), self.expected)
        return parity.gate("fp32", float(agreement.cosine.min()), float(agreement.max_abs_diff.max()))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    made = {}
    for architecture in tiny.ARCHITECTURES:
        model = tiny.model(architecture)
        folder = tiny.published(model, tmp_path_factory.mktemp(architecture) / "published")
        honest = Case(model, folder, np.zeros((0, 0), dtype=np.float32)).module()
        made[architecture] = Case(model, folder, np.concatenate([vectors(honest, row) for row in rows(model)]))
    return made


def rows(model: Model) -> list[dict[str, npt.NDArray[Any]]]:
    """One row of each length; where the length is fixed, own tokens of that length and then padding."""
    if not model.fixed_tokens:
        return [tiny.batch(model, seed, [length]) for seed, length in enumerate(LENGTHS)]
    return [tiny.batch(model, seed, [min(length, model.fixed_tokens)]) for seed, length in enumerate(LENGTHS)]


def together(model: Model) -> dict[str, npt.NDArray[Any]]:
    """The same rows in one batch, padded to the longest."""
    each = rows(model)
    if model.image or model.fixed_tokens:
        return {name: np.concatenate([row[name] for row in each]) for name in each[0]}
    batch = {"input_ids": np.full((len(each), max(LENGTHS)), model.pad_id), "attention_mask": np.zeros((len(each), max(LENGTHS)), np.int64)}
    for place, row in enumerate(each):
        for name, array in row.items():
            batch[name][place, : array.shape[1]] = array[0]
    return batch


def vectors(module: Embedder, inputs: dict[str, npt.NDArray[Any]]) -> Vectors:
    with torch.inference_mode():
        made: Vectors = module(*(torch.from_numpy(array) for array in inputs.values())).numpy()
    return made


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_honest_model_passes(cases: dict[str, Case], architecture: str) -> None:
    assert cases[architecture].complaint(cases[architecture].module()) is None


@pytest.mark.parametrize(("architecture", "bug"), [(architecture, bug) for architecture, bugs in BUGS.items() for bug in bugs])
def test_a_planted_bug_is_caught(cases: dict[str, Case], architecture: str, bug: str) -> None:
    module = cases[architecture].module()
    BUGS[architecture][bug](module)
    assert cases[architecture].complaint(module), "the gate is blind to it"


NOTHING: Mapping[str, Plant] = {
    **dict.fromkeys(["bert", "xlm_roberta", "gemma3_embedding", "qwen3", "clip_text"], masked_by(lambda *given: given)),
    "clip_vision": pooled_by(lambda backbone, hidden: backbone.post_layernorm(hidden[:, 0])),
    "siglip_text": pooled_by(lambda backbone, hidden: backbone.head(hidden[:, -1])),
    "siglip_vision": pooled_by(lambda backbone, hidden: backbone.head(hidden)),
}


@pytest.mark.parametrize("architecture", NOTHING)
def test_planting_alone_changes_nothing(cases: dict[str, Case], architecture: str) -> None:
    """So it is the bug that is caught, not the way in which it is planted."""
    module = cases[architecture].module()
    NOTHING[architecture](module)
    assert cases[architecture].complaint(module) is None


def test_every_architecture_has_a_wrong_pooling_and_a_wrong_mask_or_position() -> None:
    assert set(BUGS) == set(embedder.ARCHITECTURES)
    for bugs in BUGS.values():
        assert "pooling" in bugs and len(bugs) >= 2
