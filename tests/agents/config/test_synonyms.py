"""What users of other libraries type: names of options, and texts with special characters."""

import dataclasses

import pytest

from agents.config.compose import _paths, compose_config
from agents.config.renamed import SYNONYMS
from agents.config.schema import GROUPS, TrainConfig
from reason_envs.errors import ReasonEnvsError


@pytest.mark.parametrize("new", SYNONYMS)
def test_suggested_keys_exist(new):
    group, _, path = new.partition(".")
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert path in {p for name in GROUPS[group][0]() for p in _paths(GROUPS[group][1](name))} if path else new in fields


def test_synonyms_are_not_ambiguous():
    names = [name for text in SYNONYMS.values() for name in text.split()]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("algo.lr=1", "algo.optimizer.learning_rate"), ("learning_rate=1", "algo.optimizer.learning_rate")),
        *(("policy.lora_r=4", "policy.lora_rank"), ("lora_r=4", "policy.lora_rank"), ("kl_coef=0", "algo.kl_coef")),
        *(("algo.beta=0", "algo.kl_coef"), ("batch_size=8", "algo.tasks_per_step"), ("max_steps=3", "steps")),
        *(("algo.num_generations=4", "algo.samples_per_task"), ("policy.max_new_tokens=9", "policy.max_tokens")),
        *(("model_name=x", "policy.model"), ("dataset=gsm8k", "env.tasks"), ("reward_fn=a:b", "env.reward")),
        *(("experiment=grpo_math_lora", "+experiment=NAME"), ("env.reward.alpha=2", "env.reward='{name: ")),
    ],
)
def test_unknown_keys_are_suggested_by_meaning(typed, meant):
    with pytest.raises(ReasonEnvsError) as caught:
        compose_config([typed])
    assert meant in str(caught.value).split(" or ")[0]


@pytest.mark.parametrize(
    "text",
    [
        *(
            'Say {x}, "y" & it\'s',
            "a=b",
            "a, b",
            "Why? Because: (1) x",
            "C:\\new",
            "a [b] c",
            "50% $x$",
            "# no",
            "a:b, c",
            "Costs ${seed}, or ${x}",
            "a${seed}",
        )
    ],
)
def test_texts_can_be_typed_as_they_are(text):
    assert compose_config([f"env.system_prompt={text}"]).env.system_prompt == text


def test_a_text_can_come_from_a_file(tmp_path):
    text = 'Reason, step by step.\n"Then" give \\boxed{}: 100 % ${seed}\n'
    (tmp_path / "prompt.txt").write_text(text)
    assert compose_config([f"env.system_prompt=@{tmp_path / 'prompt.txt'}"]).env.system_prompt == text
    with pytest.raises(ReasonEnvsError, match=r"env\.system_prompt='@missing\.txt' cannot be read \(.*No such file"):
        compose_config(["env.system_prompt=@missing.txt"])
