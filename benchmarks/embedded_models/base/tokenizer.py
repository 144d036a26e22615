r"""The tokenizer of the embedded models: byte-level BPE with single digits, symbols and ``\boxed{``.

``python -m benchmarks.embedded_models.base.tokenizer --output FOLDER`` trains it on generated problems and on the
standard library.
"""

from __future__ import annotations

import argparse
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1024
END, PAD = "<|im_end|>", "<|pad|>"
ROLES = ("planner", "solver", "tool", "coder", "tester", "reasoner", "spare_0", "spare_1")
MARKERS = ("<|im_start|>", END, PAD, *(f"<|{role}|>" for role in ROLES))
"""Special tokens: those of the chat template, and role markers for other families."""
PHRASES = (
    "State the final answer to the following arithmetic problem: ",
    "Solve the following multiplication: ",
    " Give only the result as your final answer.",
    " Give the result as your final answer. Do not include units.",
    "Your task is to count how many legs there are in total when given a list of animals.\n\n"
    "Now, how many legs are there in total if you have ",
)
"""Fixed wording of families as one token each, so that a small model need not learn to spell it."""
PATTERN = (
    r"(?<=[\p{N})]) [-+*/=] (?=[-\p{N}(])"  # an operator between numbers includes its spaces
    r"|\\boxed\{"
    r"|\p{N}"
    r"|[^\s\p{L}\p{N}]"  # every symbol is separate, to keep the structure of grids and expressions
    r"|\n"
    r"| (?= *[^\s\p{L}\p{N}])"  # floor cells of a grid are separate
    r"| ?\p{L}+"
    r"|\s+(?=\s\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FAMILIES = (
    "chain_sum", "basic_arithmetic", "products", "gsm_symbolic", "leg_counting", "calendar_arithmetic",
    "fraction_simplification", "simple_equations", "number_sorting", "countdown", "time_intervals",
    "letter_counting", "spell_backward", "family_relationships", "knights_knaves", "syllogism", "maze",
    "sokoban", "mini_sudoku", "shortest_path", "n_queens", "tower_of_hanoi", "course_schedule",
    "word_sorting", "base_conversion", "polynomial_equations", "power_function", "prime_factorization",
    "propositional_logic", "rotate_matrix",
)  # fmt: skip
"""Families of reasoning-gym on whose problems the tokenizer is trained."""


def build(vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Train the tokenizer.

    Args:
        vocabulary: number of tokens, including markers and phrases.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(PHRASES),
        special_tokens=list(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(corpus(), trainer)
    core.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[m for m in MARKERS if m not in (END, PAD)],
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
        padding_side="left",
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def corpus(seed: int = 0) -> Iterator[str]:
    """Yield the training text: problems of many families, worked solutions, code, grids and chat roles."""
    import reasoning_gym

    from benchmarks.embedded_models.base.demonstrations import careful, chain_sum_expression, gsm_symbolic

    rng = Random(seed)
    for family in FAMILIES:
        for item in reasoning_gym.create_dataset(family, size=300 if family == "gsm_symbolic" else 60, seed=seed):
            yield item["question"]
            if family == "gsm_symbolic":
                yield gsm_symbolic(item["metadata"], item["answer"])
    for _ in range(300):
        yield "system\nuser\nassistant\n" + careful(chain_sum_expression(rng))
    yield from _standard_library()


def _standard_library(files: int = 60, characters: int = 6000) -> Iterator[str]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.glob("*.py"))[:files]:
        yield path.read_text(encoding="utf-8", errors="strict")[:characters]


def main() -> None:
    """Train the tokenizer and save it."""
    parser = argparse.ArgumentParser(description="Train the tokenizer of the embedded models.")
    parser.add_argument("--output", type=Path, required=True, help="folder for tokenizer.json and its configuration")
    build().save_pretrained(parser.parse_args().output)


if __name__ == "__main__":
    main()
