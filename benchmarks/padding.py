"""How many of the positions that `pretrain` computes are padding: a batch is as long as its longest instruction.

    python benchmarks/padding.py INSTRUCTIONS [--tokenizer FOLDER] [--image-tokens 64] [--batch 32] [--out FILE]

INSTRUCTIONS is a dataset's folder or URL, or a JSON list of texts. Without --tokenizer, a token is a word or a mark of
punctuation; with it, a Hugging Face tokenizer's folder counts. `waste` is of the micro batches that training cuts a
rank's share of a batch into, `unsorted` of the same samples in the stream's own order, as where `fit.micro_batch_size`
is not set and a share goes through at once.
"""

import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import parser_of, write
from lapa.data.dataset import Dataset
from lapa.training.micro_batches import longest_first

GOAL = 0.02
TEMPLATE_TOKENS = 14
"""Words and marks of the default prompt around the instruction."""


def instructions_of(source: str) -> list[tuple[str, int]]:
    """Texts, and how many samples each has."""
    if source.endswith(".json"):
        return [(text, 1) for text in json.loads(Path(source).read_text())]
    index = Dataset.open(source).index
    return list(zip(index["instruction"].to_pylist(), index["num_frames"].to_pylist(), strict=True))


def words(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def counter_of(tokenizer: str | None) -> Callable[[str], int]:
    if tokenizer is None:
        return words
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return lambda text: len(loaded(text, add_special_tokens=False)["input_ids"])


def waste(batches: Sequence[Sequence[int]]) -> float:
    computed = sum(len(batch) * max(batch) for batch in batches)
    return 1 - sum(sum(batch) for batch in batches) / computed


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("instructions")
    parser.add_argument("--tokenizer")
    parser.add_argument("--image-tokens", type=int, default=64, help="positions of the picture (SmolVLM 64, LLaVA 576)")
    parser.add_argument("--codes", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32, help="samples of one forward pass")
    parser.add_argument("--passes", type=int, default=8, help="micro batches of a rank's share")
    parser.add_argument("--batches", type=int, default=200, help="global batches to look at")
    options = parser.parse_args()
    texts, count = instructions_of(options.instructions), counter_of(options.tokenizer)
    around = options.image_tokens + TEMPLATE_TOKENS + options.codes - 1
    lengths, weights = [around + count(text) for text, _ in texts], [samples for _, samples in texts]
    drawn = random.Random(0)
    shuffled: list[list[int]] = []
    cut: list[list[int]] = []
    for _ in range(options.batches):
        batch = drawn.choices(lengths, weights, k=options.batch * options.passes)
        for order, found in ((range(len(batch)), shuffled), (longest_first(batch), cut)):
            taken = [batch[place] for place in order]
            found += [taken[first : first + options.batch] for first in range(0, len(taken), options.batch)]
    result: dict[str, Any] = {
        "instructions": len(texts), "distinct": len({text for text, _ in texts}), "batch": options.batch,
        "image_tokens": options.image_tokens, "shortest": min(lengths), "longest": max(lengths),
        "waste": waste(cut), "unsorted": waste(shuffled), "goal": GOAL,
    }  # fmt: skip
    write(result, options.out)


if __name__ == "__main__":
    main()
