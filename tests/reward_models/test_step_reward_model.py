import asyncio
import weakref

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForTokenClassification,
    PreTrainedTokenizerFast,
)

from reason_envs.batching import gather
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm.loading import load_tokenizer
from reason_envs.reward_models import StepRewardModel, StepScoreRequest, make_reward_model
from reason_envs.reward_models.reader import Row, batches_by_length
from reason_envs.reward_models.transformers import TransformersStepRewardModel, encode_steps

REQUESTS = [
    StepScoreRequest("1 + 2 + 3 =", ("1 + 2 = 3", "3 + 3 = 6", "\\boxed{6}")),
    StepScoreRequest("10 - 4 =", ("10 - 4 = 6",)),
    StepScoreRequest("1 + 2 + 3 =", ("1 + 2 = 4", "", "4 + 3 = 7")),
]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"0123456789+-=\\{}", "boxed"]
LABELS = {0: "wrong", 1: "right"}


@pytest.fixture(scope="module")
def word_tokenizer():
    """A tokenizer that differs from the embedded one: lower case, no line breaks, special tokens around the text."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(token, WORDS.index(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")


def build(folder, kind, tokenizer, id2label=LABELS, positions=128):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config_class, model_class = {
        "bert": (BertConfig, BertForTokenClassification),
        "llama": (LlamaConfig, LlamaForTokenClassification),
    }[kind]
    label2id = {name: i for i, name in id2label.items()}
    shape = {"vocab_size": len(tokenizer), "max_position_embeddings": positions, "initializer_range": 0.3, **sizes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config_class(**shape, id2label=id2label, label2id=label2id, pad_token_id=0))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory, word_tokenizer):
    return build(tmp_path_factory.mktemp("bert"), "bert", word_tokenizer)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return build(tmp_path_factory.mktemp("llama"), "llama", load_tokenizer("embedded"))


def make(folder, **options):
    return make_reward_model("transformers", model=folder, device="cpu", **options)


def score(model, *requests):
    async def ask():
        return await gather(*(model.score(request) for request in requests))

    return [answer.scores for answer in asyncio.run(ask())]


class TestBoundaries:
    def test_encode_steps_uses_chat_template_and_line_breaks(self):
        tokenizer = load_tokenizer("embedded")
        encoded = encode_steps(tokenizer, "1 + 2 =", ("1 + 2 = 3", "", "\\boxed{3}"))
        text = "<|im_start|>user\n1 + 2 =<|im_end|>\n<|im_start|>assistant\n1 + 2 = 3\n\n\\boxed{3}\n"
        assert tokenizer.decode(encoded.token_ids) == text
        assert [tokenizer.decode(encoded.token_ids[: end + 1]) for end in encoded.ends] == [
            text.removesuffix("\n\\boxed{3}\n"),
            text.removesuffix("\\boxed{3}\n"),
            text,
        ]

    def test_encode_steps_without_template_and_line_breaks(self, word_tokenizer):
        encoded = encode_steps(word_tokenizer, "1 + 2 =", ("1 + 2 = 3", "\\boxed{3}"))
        tokens = word_tokenizer.convert_ids_to_tokens(encoded.token_ids)
        assert tokens == ["[CLS]", *"1+2=1+2=3", "\\", "boxed", *"{3}", "[SEP]"]
        assert [tokens[: end + 1][-1] for end in encoded.ends] == ["3", "}"]
        assert encoded.ends == (9, 14)

    def test_encode_steps_of_empty_steps(self, word_tokenizer):
        assert encode_steps(word_tokenizer, "1", ("", " ", "2")).ends == (1, 1, 2)

    def test_encode_steps_with_tokens_across_line_breaks(self):
        """A token across a line break ends the line before it."""
        core = Tokenizer(models.WordLevel({"a": 0, "3\n": 1, "b": 2, "?": 3, "\n": 4}, unk_token="?"))
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split("3\n", "isolated"), pre_tokenizers.Split("b", "isolated")]
        )
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")
        encoded = encode_steps(tokenizer, "a", ("3", "b"))
        assert [tokenizer.decode(encoded.token_ids[end]) for end in encoded.ends] == ["3\n", "\n"]


@pytest.mark.parametrize("kind", ["bert", "llama"])
class TestScores:
    def test_model_scores_the_same_alone_and_in_a_batch(self, kind, request):
        model = make(request.getfixturevalue(kind))
        assert isinstance(model, StepRewardModel)
        together = score(model, *REQUESTS)
        for one, scores in zip(REQUESTS, together, strict=True):
            assert score(model, one)[0] == pytest.approx(scores, abs=1e-5)
            assert len(scores) == len(one.steps)
            assert all(0 < s < 1 for s in scores)
        assert len({round(s, 6) for scores in together for s in scores}) >= 6  # they differ

    def test_model_scores_do_not_depend_on_later_steps(self, kind, request):
        model = make(request.getfixturevalue(kind))
        question, steps = REQUESTS[0].question, REQUESTS[0].steps
        (whole,) = score(model, REQUESTS[0])
        for i in range(1, len(steps)):
            (prefix,) = score(model, StepScoreRequest(question, steps[:i]))
            assert prefix == pytest.approx(whole[:i], abs=1e-5)

    def test_model_scores_do_not_depend_on_batch_size(self, kind, request):
        folder = request.getfixturevalue(kind)
        for some, others in zip(
            score(make(folder), *REQUESTS), score(make(folder, max_batch_tokens=1), *REQUESTS), strict=True
        ):
            assert some == pytest.approx(others, abs=1e-5)


def test_model_counts_calls_and_tokens(llama):
    model = make(llama)
    score(model, *REQUESTS, REQUESTS[0], StepScoreRequest("no step yet", ()))
    assert model.batcher.calls == 1
    assert model.scored_tokens == sum(map(model.count_tokens, REQUESTS))  # the equal request was read once
    first = REQUESTS[0]
    assert model.count_tokens(first) == len(encode_steps(model.tokenizer, first.question, first.steps).token_ids)
    assert score(model, StepScoreRequest("no step yet", ())) == [[]]


def test_model_close_frees_the_weights_and_makes_later_requests_fail(llama):
    model = make(llama)
    score(model, REQUESTS[0])
    weights = [weakref.ref(parameter) for parameter in model.reader.model.parameters()]
    model.close()
    model.close()
    assert [weight for weight in weights if weight() is not None] == []
    with pytest.raises(EngineError, match=r"TransformersStepRewardModel is closed\. Build a new one"):
        score(model, REQUESTS[0])


def test_model_with_a_non_causal_backbone_reads_each_prefix(bert):
    model = make(bert)
    prefixes = [StepScoreRequest(REQUESTS[0].question, REQUESTS[0].steps[:i]) for i in (1, 2, 3)]
    lengths = [len(encode_steps(model.tokenizer, p.question, p.steps).token_ids) for p in prefixes]
    assert model.count_tokens(REQUESTS[0]) == sum(lengths)
    score(model, *prefixes)
    assert model.scored_tokens == sum(lengths)  # prefixes of the others are read once


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_model_scores_steps_beyond_its_positions_with_0(kind, tmp_path, word_tokenizer):
    tokenizer = word_tokenizer if kind == "bert" else load_tokenizer("embedded")
    model = make(build(tmp_path, kind, tokenizer, positions=64))
    steps = ("1 + 1 = 2",) * 12
    with pytest.warns(UserWarning, match="exceeds the 64 positions"):
        (scores,) = score(model, StepScoreRequest("1 + 1 =", steps))
    fitting = sum(s > 0 for s in scores)
    assert 2 <= fitting < 12
    assert scores[fitting:] == [0.0] * (12 - fitting)
    (short,) = score(model, StepScoreRequest("1 + 1 =", steps[:fitting]))
    assert scores[:fitting] == pytest.approx(short, abs=1e-5)
    with pytest.warns(UserWarning, match="exceeds the 64 positions"):
        assert score(model, StepScoreRequest("1 " * 100, steps[:1])) == [[0.0]]


class TestLabels:
    def test_positive_index_follows_the_configuration(self, tmp_path, llama):
        swapped = build(tmp_path, "llama", load_tokenizer("embedded"), {0: "Correct", 1: "incorrect"})
        (usual,), (other,) = score(make(llama), REQUESTS[0]), score(make(swapped), REQUESTS[0])
        assert other == pytest.approx([1 - s for s in usual], abs=1e-5)

    def test_positive_index_refuses_unclear_label_names(self, tmp_path, llama):
        folder = build(tmp_path, "llama", load_tokenizer("embedded"), {0: "LABEL_0", 1: "LABEL_1"})
        with pytest.raises(ReasonEnvsError, match=r"labels \['LABEL_0', 'LABEL_1'\].*Set positive_label"):
            make(folder)
        with pytest.raises(ReasonEnvsError, match="positive_label='LABEL_2' does not select one"):
            make(folder, positive_label="LABEL_2")
        assert score(make(folder, positive_label="LABEL_1"), REQUESTS[0]) == score(make(llama), REQUESTS[0])

    def test_positive_index_refuses_a_single_label(self, tmp_path):
        folder = build(tmp_path, "llama", load_tokenizer("embedded"), {0: "right"})
        with pytest.raises(ReasonEnvsError, match="at least two labels"):
            make(folder)


def test_batches_by_length_group_rows_of_similar_length():
    rows = [Row((0,) * n, 0) for n in (5, 1, 9, 2, 30)]
    lengths = [[len(row.token_ids) for row in batch] for batch in batches_by_length(rows, 18)]
    assert lengths == [[1, 2, 5], [9], [30]]
    assert list(batches_by_length([], 18)) == []


def test_model_refuses_invalid_options():
    with pytest.raises(ReasonEnvsError, match="max_batch_tokens=0 must be at least 1"):
        TransformersStepRewardModel(max_batch_tokens=0)
    with pytest.raises(ReasonEnvsError, match="this folder does not exist"):
        make("./nowhere")
