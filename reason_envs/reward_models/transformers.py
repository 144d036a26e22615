"""The step reward model on Hugging Face transformers: a token classifier that scores the end of each step."""

import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from reason_envs.errors import OptionError
from reason_envs.llm import embedded
from reason_envs.llm.chat import max_positions
from reason_envs.llm.engine import closed_error
from reason_envs.llm.loading import load_model, load_tokenizer, resolve_device, resolve_dtype
from reason_envs.llm.prefix_cache import PrefixStore
from reason_envs.llm.weights import digest
from reason_envs.reward_models.base import BatchedStepRewardModel, StepScoreRequest, StepScores
from reason_envs.reward_models.options import StepRewardModelConfig
from reason_envs.reward_models.reader import CachedSteps, Row, StepReader, question_cache

LABELS = ("wrong", "right")
"""Labels of the embedded model and of newly trained ones, in order."""
RIGHT_NAMES = frozenset({"right", "correct", "good", "positive", "true", "yes", "+"})
"""Label names in lower case that mean a right step."""
STEP_END = "\n"
"""Text after each step, including the last one, in the input of the model."""


@dataclass(frozen=True)
class EncodedSteps:
    """A problem and its steps as the model reads them."""

    token_ids: tuple[int, ...]
    """Token ids of the problem and all steps."""
    ends: tuple[int, ...]
    """Index of the last token of each step. The model's output at this token is the score of the step."""
    question_tokens: int
    """Number of tokens before the first step."""


def encode_steps(tokenizer: Any, question: str, steps: Sequence[str]) -> EncodedSteps:
    """Tokenize a problem and its steps, and find the token at which each step ends.

    The text is the problem in the tokenizer's chat template (without one: the problem alone), then one line per step. A
    step ends at the token with the line break after it. If the tokenizer drops line breaks, it ends at its last own
    token. Only positions in the text are used, so the generator may have another tokenizer.
    """
    text, with_template = question + STEP_END, tokenizer.chat_template is not None
    if with_template:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    question_end, breaks = len(text), []
    for step in steps:
        text += step
        breaks.append(len(text))
        text += STEP_END
    encoded = tokenizer(text, add_special_tokens=not with_template, return_offsets_mapping=True)
    # Tokens without text, such as [SEP], do not end a step.
    places = [(start, i) for i, (start, end) in enumerate(encoded["offset_mapping"]) if end > start]
    starts = [start for start, _ in places]
    ends = tuple(places[max(bisect_right(starts, position) - 1, 0)][1] for position in breaks)
    before = next((i for start, i in places if start >= question_end), len(encoded["input_ids"]))
    return EncodedSteps(tuple(encoded["input_ids"]), ends, before)


def encode_rows(
    tokenizer: Any, question: str, steps: Sequence[str], *, causal: bool, positions: int | None
) -> list[EncodedSteps]:
    """Return the rows that the model must read to score all steps.

    A causal backbone needs one row. Any other backbone needs one row per step, which ends with that step. Rows are cut
    at the model's ``positions``, but ``ends`` keeps the steps beyond them.
    """
    if causal:
        rows = [encode_steps(tokenizer, question, steps)] if steps else []
    else:
        prefixes = (encode_steps(tokenizer, question, steps[: i + 1]) for i in range(len(steps)))
        rows = [replace(row, ends=row.ends[-1:]) for row in prefixes]
    return [replace(row, token_ids=row.token_ids[:positions]) for row in rows]


class TransformersStepRewardModel(BatchedStepRewardModel):
    """A token classifier in this process. The score of a step is the probability of the positive label at its end.

    A causal backbone scores all steps of a solution in one pass. Any other backbone would also see the later steps, so
    it reads each prefix separately. A step that ends beyond the model's positions gets the score 0 and a warning.
    """

    def __init__(self, config: StepRewardModelConfig | None = None, **overrides: Any) -> None:
        super().__init__()
        self.config = config = config or StepRewardModelConfig(**overrides)
        self.device = resolve_device(config.device)
        path = str(embedded.path("step_reward_model")) if config.model == "embedded" else config.model
        self.tokenizer = load_tokenizer(path, generates=False)
        model = load_model(
            path,
            device=self.device,
            dtype=resolve_dtype(config.dtype, self.device),
            attention=config.attention,
            auto_class="AutoModelForTokenClassification",
            load_in_8bit=config.load_in_8bit,
        )
        positive = positive_index(model.config.id2label, config.positive_label, config.model)
        store = PrefixStore(model.config, config.prefix_cache_mb << 20)
        pad_id = self.tokenizer.pad_token_id or 0
        self._reader: StepReader | None = StepReader(model, positive, pad_id, store, config.max_batch_tokens)
        self.model_name = config.model
        self._positions = max_positions(model)
        self._is_causal = is_causal(model)
        self._caches = self._is_causal and store.enabled

    @property
    def reader(self) -> StepReader:
        """The reader of token rows. An error if the model is closed."""
        if self._reader is None:
            raise closed_error(self)
        return self._reader

    def score_batch(self, requests: Sequence[StepScoreRequest]) -> list[StepScores]:
        """Score several requests. Equal rows are read once."""
        encoded = {request: self._rows(request) for request in dict.fromkeys(requests)}
        reads: dict[tuple[int, ...], Row] = {}
        for request, rows in encoded.items():
            for row in rows:
                read = reads.setdefault(row.token_ids, Row(row.token_ids, row.question_tokens))
                read.scores.update(dict.fromkeys(row.ends, 0.0))
                if self._caches and request.keep_prefix:
                    read.keep_prefix = True
                    read.prefix_cache = read.prefix_cache or self._usable(request.prefix_cache, row.token_ids)
        self.reader.read(list(reads.values()))
        self.reread_tokens = self.reader.store.reread_tokens
        self.scored_tokens += sum(len(read.token_ids) - read.cached_tokens for read in reads.values())
        return [self._scores(encoded[request], reads) for request in requests]

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return the number of tokens that the model reads to score a single request."""
        return sum(len(row.token_ids) for row in self._rows(request))

    def weights_digest(self) -> str:
        """Return a hash of the weights."""
        return digest(self.reader.model.state_dict())

    def close(self) -> None:
        """Free the model. Further calls have no effect."""
        self._reader = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _rows(self, request: StepScoreRequest) -> list[EncodedSteps]:
        rows = encode_rows(
            self.tokenizer, request.question, request.steps, causal=self._is_causal, positions=self._positions
        )
        if any(row.ends[-1] >= len(row.token_ids) for row in rows):
            warnings.warn(
                f"A solution exceeds the {self._positions} positions of the step reward model. Steps that end beyond "
                "them get the score 0. Reduce max_depth or max_step_tokens, or use a model with a longer context.",
                stacklevel=2,
            )
        return rows

    def _usable(self, cache: Any, token_ids: tuple[int, ...]) -> CachedSteps | None:
        """Return the part of the cache of a row's first tokens that is valid for that row and still in memory."""
        if not isinstance(cache, CachedSteps) or token_ids[: len(cache.token_ids)] != cache.token_ids:
            return None
        prefix = self.reader.store.usable(cache.prefix, len(token_ids))
        return None if prefix is None else replace(cache, token_ids=token_ids[: prefix.length], prefix=prefix)

    def _scores(self, rows: Sequence[EncodedSteps], reads: Mapping[tuple[int, ...], Row]) -> StepScores:
        scores = [reads[row.token_ids].scores[end] for row in rows for end in row.ends]
        cache = reads[rows[-1].token_ids].new_prefix_cache if rows else None
        return StepScores(scores, cache, None if cache is None else question_cache(cache))


def positive_index(id2label: Mapping[int, str], positive_label: str | None, model: str) -> int:
    """Return the index of the label that means a right step; by default, of a label with a usual name.

    Raises:
        OptionError: there is only one label, or no label or several labels match.
    """
    names = {int(index): str(name) for index, name in id2label.items()}
    found = [
        i for i, n in names.items() if n == positive_label or (positive_label is None and n.lower() in RIGHT_NAMES)
    ]
    if len(found) == 1 and len(names) > 1:
        return found[0]
    raise OptionError(
        "positive_label",
        positive_label,
        f"does not select one of the labels {list(names.values())} of the step reward model {model!r}. The model must "
        "be a token classifier with at least two labels. Set positive_label to the one that means a right step, or "
        "name it 'right' in the model's config.json (id2label).",
    )


@torch.inference_mode()
def is_causal(model: Any) -> bool:
    """Return whether scores do not depend on later tokens, found by changing the later tokens of an input."""
    # Small ids exist in every vocabulary. Row 1 differs from row 0 in all tokens except the first.
    ids = torch.tensor([[1, 2, 3, 4], [1, 5, 6, 7]], device=model.device)
    first = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, 0].float()
    return torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-5)
