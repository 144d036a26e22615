"""The TRL adapter: prompts, rewards, dialogues with only the policy's tokens in the loss, and training steps."""

import importlib.util
import runpy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scripted_engine import ScriptedEngine
from toys import Toy, ToyConfig, TurnToy

from reason_envs import make_environment
from reason_envs.adapters.trl import episode_reward, prompt_dataset, reward_function, rollout_function
from reason_envs.adapters.trl_dialogue import Speaker
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.loading import load_tokenizer

EXAMPLE = Path(__file__).resolve().parents[2] / "benchmarks" / "learning" / "trl_grpo.py"
needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed (extra [trl])")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("embedded")


class FakeTrainer:
    """The parts of ``GRPOTrainer`` that a rollout uses. A function of the texts so far writes the responses."""

    use_vllm, chat_template, chat_template_kwargs = False, None, {}

    def __init__(self, tokenizer, write, room=100, positions=2048, log_probs=False):
        self.processing_class, self.write, self.log_probs = tokenizer, write, log_probs
        self.max_completion_length = room
        self.eos_token_ids = [tokenizer.eos_token_id]
        self.generation_config = SimpleNamespace(max_new_tokens=room)
        self.model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=positions))
        self.args, self.accelerator = SimpleNamespace(), SimpleNamespace(num_processes=1)
        self.batches, self.limits = [], []

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations):
        self.batches.append(len(prompt_ids))
        self.limits.append(self.generation_config.max_new_tokens)
        texts = [self.write(self.processing_class.decode(ids)) for ids in prompt_ids]
        ids = [self.processing_class.encode(text, add_special_tokens=False)[: self.limits[-1]] for text in texts]
        return ids, [[-0.5] * len(one) for one in ids] if self.log_probs else None


def rows(environment, count=3):
    return [row["prompt"] for row in prompt_dataset(environment, count)]


def said(completions):
    return [[{"role": "assistant", "content": text}] for text in completions]


def test_prompt_dataset_has_the_messages_of_its_seeds():
    environment = make_environment("single_turn_math", system_prompt="Answer in a box.")
    prompts = rows(environment)
    assert [m["role"] for m in prompts[0]] == ["system", "user"]
    assert len({prompt[1]["content"] for prompt in prompts}) == 3
    assert prompts == rows(environment)
    other = [row["prompt"] for row in prompt_dataset(environment, 3, seed=1)]
    assert all(prompt not in prompts for prompt in other)


def test_reward_function_returns_the_rewards_of_the_environment():
    environment = make_environment("single_turn_math")
    prompts, metrics = rows(environment), {}
    answers = [environment.tasks.sample(prompt[0]["seed"]).answer for prompt in prompts]
    completions = said([rf"\boxed{{{answers[0]}}}", r"\boxed{-12345}", "no idea"])
    paid = reward_function(environment)(
        prompts=prompts, completions=completions, log_metric=metrics.__setitem__, trainer_state=None, completion_ids=[]
    )
    assert paid == [1.0, -1.0, -0.5]
    assert metrics == {"accuracy": pytest.approx(1 / 3)}


def test_reward_function_makes_one_batch_of_solver_calls():
    solver = ScriptedEngine(r"\boxed{1}")
    environment = make_environment("planner_solver", solver=solver, leak_check=False)
    prompts = rows(environment, 6)
    paid = reward_function(environment)(prompts=prompts, completions=said(["Work step by step."] * 6))
    assert set(paid) <= {0.0, 1.0}
    assert (solver.batcher.calls, solver.batcher.requests) == (1, 6)


@pytest.mark.parametrize("environment", [Toy(ToyConfig(turns=2)), TurnToy(), make_environment("petting_plan_path")])
def test_reward_function_rejects_episodes_of_several_turns(environment):
    with pytest.raises(ReasonEnvsError, match="rollout_function"):
        reward_function(environment)(prompts=rows(environment), completions=said(["a", "b", "c"]))


def test_prompts_of_another_environment_are_rejected():
    environment = make_environment("single_turn_math")
    foreign = rows(make_environment("single_turn_math", tasks={"name": "gcd"}))
    with pytest.raises(ReasonEnvsError, match="same options"):
        reward_function(environment)(prompts=foreign, completions=said(["a", "b", "c"]))
    with pytest.raises(ReasonEnvsError, match="prompt_dataset"):
        reward_function(environment)(prompts=[[{"role": "user", "content": "?"}]], completions=said(["a"]))


@pytest.mark.parametrize("kind", [Toy, TurnToy])
def test_env_mask_selects_the_responses_in_the_template(tokenizer, kind):
    environment = kind(ToyConfig(turns=3))
    trainer = FakeTrainer(tokenizer, lambda text: f"{text.count('turn')} {text[-30:].count('1')}<|im_end|>")
    prompts = rows(environment, 4)
    played = rollout_function(environment)(prompts, trainer)
    assert trainer.batches == [4, 4, 4]  # all episodes answer together
    assert played["logprobs"] is None
    for prompt_ids, ids, mask in zip(played["prompt_ids"], played["completion_ids"], played["env_mask"], strict=True):
        text = tokenizer.decode(prompt_ids + ids)
        turns = [turn.partition("<|im_end|>")[0].split("\n", 1) for turn in text.split("<|im_start|>")[1:]]
        messages = [{"role": role, "content": content} for role, content in turns]
        assert [m["role"] for m in messages] == ["user", "assistant"] * 3
        whole = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        assert whole[: len(prompt_ids + ids)] == prompt_ids + ids
        mine = tokenizer.decode([i for i, own in zip(ids, mask, strict=True) if own])
        assert mine == "".join(f"{m['content']}<|im_end|>" for m in messages[1::2])
        assert len(messages) == 6


def test_rollout_returns_the_rewards_of_all_turns(tokenizer):
    environment = Toy(ToyConfig(turns=3))
    trainer = FakeTrainer(tokenizer, lambda text: text.rpartition(": ")[2].split("<")[0] + "<|im_end|>")
    played = rollout_function(environment)(rows(environment), trainer)
    assert played["episode_reward"] == [3.0] * 3  # every answer repeats the observed number
    assert episode_reward(**played, trainer_state=None) == [3.0] * 3


def test_log_probs_are_aligned_with_their_tokens(tokenizer):
    trainer = FakeTrainer(tokenizer, lambda text: "12<|im_end|>", log_probs=True)
    played = rollout_function(Toy())(rows(Toy()), trainer)
    for log_probs, mask in zip(played["logprobs"], played["env_mask"], strict=True):
        assert log_probs == [-0.5 * own for own in mask]


def test_a_cut_response_is_ended_outside_of_the_loss(tokenizer):
    trainer = FakeTrainer(tokenizer, lambda text: "1 2 3 4 5 6 7 8 9<|im_end|>")
    played = rollout_function(Toy(ToyConfig(turns=2)), max_turn_tokens=4)(rows(Toy()), trainer)
    assert trainer.limits == [4, 4]
    assert trainer.generation_config.max_new_tokens == 100  # as before
    ids, mask = played["completion_ids"][0], played["env_mask"][0]
    assert mask[:4] == [1] * 4
    assert (ids[4], mask[4]) == (tokenizer.eos_token_id, 0)
    assert (sum(mask), mask[-4:]) == (8, [1] * 4)


def test_a_full_dialogue_continues_with_empty_responses(tokenizer):
    """Otherwise a policy could avoid the negative reward at the end of an episode by filling the dialogue."""
    environment = make_environment("petting_plan_path", roles="single", max_turns=2)
    trainer = FakeTrainer(tokenizer, lambda text: "hm<|im_end|>", room=20)
    played = rollout_function(environment)(rows(environment), trainer)
    assert trainer.batches == [3]
    assert all(set(mask) == {1} for mask in played["env_mask"])
    assert played["episode_reward"] == [pytest.approx(-4 * 0.1 - 1)] * 3


def test_a_prompt_that_fills_the_context_is_an_error(tokenizer):
    trainer = FakeTrainer(tokenizer, lambda text: "1", positions=5)
    with pytest.raises(ReasonEnvsError, match="context of 5 tokens"):
        rollout_function(Toy())(rows(Toy()), trainer)


def test_later_system_messages_are_dropped_or_merged(tokenizer):
    speaker = Speaker(FakeTrainer(tokenizer, lambda text: "1<|im_end|>"), None)
    first, second = ({"role": "system", "content": content} for content in ("You write.", "You check."))
    user = {"role": "user", "content": "Go on."}
    dialogue = speaker.begin([first, user])
    for system, expected in ((first, "user\nGo on."), (second, "user\nYou check.\n\nGo on.")):
        before = len(dialogue.completion_ids)
        speaker.answer([dialogue])
        speaker.reply(dialogue, [system, user])
        added = tokenizer.decode(dialogue.completion_ids[before:])
        assert added == f"1<|im_end|>\n<|im_start|>{expected}<|im_end|>\n<|im_start|>assistant\n"


class Conversation(Toy):
    """Shows the whole dialogue, as needed by a policy without memory. Spaces at the ends are removed."""

    async def reset(self, *, seed=None, options=None):
        result = await super().reset(seed=seed)
        self.said = [{"role": "system", "content": "Talk."}, {"role": "user", "content": "Begin."}]
        return replace(result, observations={"solver": list(self.said)})

    async def step(self, actions):
        result = await super().step(actions)
        self.said += [{"role": "assistant", "content": actions["solver"].strip()}, {"role": "user", "content": "And?"}]
        return replace(result, observations={agent: list(self.said) for agent in result.observations})

    def render_messages(self, observation):
        return observation


def test_repeated_messages_are_left_out(tokenizer):
    trainer = FakeTrainer(tokenizer, lambda text: " 12<|im_end|>", room=200)
    environment = Conversation(ToyConfig(turns=3))
    played = rollout_function(environment)(rows(environment, 1), trainer)
    text = tokenizer.decode(played["prompt_ids"][0] + played["completion_ids"][0])
    turn = "user\n{}<|im_end|>\n<|im_start|>assistant\n 12<|im_end|>"
    turns = [turn.format(question) for question in ("Begin.", "And?", "And?")]
    assert text == "<|im_start|>system\nTalk.<|im_end|>\n<|im_start|>" + "\n<|im_start|>".join(turns)


def test_every_fork_is_closed(tokenizer):
    forks = []

    class Watched(Toy):
        def fork(self, seed=None):
            forks.append(super().fork(seed))
            return forks[-1]

    trainer = FakeTrainer(tokenizer, lambda text: "1<|im_end|>")
    environment = Watched(ToyConfig(turns=1))
    rollout_function(environment)(rows(environment), trainer)
    reward_function(environment)(prompts=rows(environment), completions=said(["a", "b", "c"]))
    assert len(forks) == 8
    assert all(fork.closed for fork in forks)
    assert not environment.closed


@pytest.mark.parametrize(
    ("fsdp", "zero_stage", "vllm", "refused"),
    [(True, None, False, True), (False, 3, False, True), (False, 2, False, False), (True, None, True, False)],
)
def test_sharded_models_are_rejected(tokenizer, fsdp, zero_stage, vllm, refused):
    trainer = FakeTrainer(tokenizer, lambda text: "1<|im_end|>")
    plugin = None if zero_stage is None else SimpleNamespace(zero_stage=zero_stage)
    trainer.is_fsdp_enabled, trainer.use_vllm = fsdp, vllm
    trainer.accelerator = SimpleNamespace(num_processes=2, state=SimpleNamespace(deepspeed_plugin=plugin))
    trainer.args = SimpleNamespace(vllm_mode="colocate", vllm_tensor_parallel_size=1)
    with pytest.raises(ReasonEnvsError, match="hold parts of one model") if refused else nullcontext():
        Speaker(trainer, None)


def test_a_shared_vllm_is_rejected(tokenizer):
    trainer = FakeTrainer(tokenizer, lambda text: "1")
    trainer.use_vllm, trainer.accelerator.num_processes = True, 2
    trainer.args = SimpleNamespace(vllm_mode="server", vllm_tensor_parallel_size=1)
    with pytest.raises(ReasonEnvsError, match="wait for each other"):
        rollout_function(Toy())(rows(Toy()), trainer)


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "model", "room"),
    [
        ("single_turn_math", {}, "embedded", 48),
        ("planner_solver", {}, "embedded:planner_solver", 24),
        ("petting_math", {"roles": "single", "max_turns": 1}, "embedded", 160),
    ],
)
def test_example_trains_the_embedded_model(name, options, model, room, tmp_path, monkeypatch):
    """With TRL's trainer: the loss mask selects the policy's tokens, and the weights change."""
    from trl import GRPOTrainer

    from reason_envs.llm.loading import load_model

    sampled, losses = [], []
    generate, score = GRPOTrainer._generate_single_turn, GRPOTrainer._compute_loss

    def watch_generation(self, prompt_ids, *arguments, **options):
        token_ids, log_probs = generate(self, prompt_ids, *arguments, **options)
        sampled.extend(zip([list(ids) for ids in prompt_ids], [list(ids) for ids in token_ids], strict=True))
        return token_ids, log_probs

    def watch_loss(self, model, inputs):
        losses.append({key: value.clone() for key, value in inputs.items() if torch.is_tensor(value)})
        return score(self, model, inputs)

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", watch_generation)
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", watch_loss)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    sizes = {"per_device_train_batch_size": 16, "num_generations": 8, "max_steps": 2, "disable_tqdm": True}
    trainer = runpy.run_path(str(EXAMPLE))["train"](
        make_environment(name, **options), model, str(tmp_path), max_completion_length=room, learning_rate=1e-4, **sizes
    )

    assert losses
    for inputs in losses:
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        for i in range(len(mask)):
            prompt = inputs["prompt_ids"][i][inputs["prompt_mask"][i].bool()].tolist()
            completion = inputs["completion_ids"][i][inputs["completion_mask"][i].bool()].tolist()
            assert mask[i].tolist()[: len(completion)] == expected_mask(sampled, prompt, completion)
            assert not mask[i][len(completion) :].any()
    if name == "petting_math":
        assert any((inputs["tool_mask"] < inputs["completion_mask"]).any() for inputs in losses)

    before = load_model(model, device=torch.device("cpu"), dtype=torch.float32).state_dict()
    after = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(value.isfinite().all() for value in after.values())
    assert "accuracy" in {key for row in trainer.state.log_history for key in row}


def expected_mask(sampled, prompt, completion):
    """Return 1 for each token that a call sampled after exactly the tokens before it, else 0."""
    mask, at = [0] * len(completion), 0
    calls = {}
    for context, response in sampled:
        calls.setdefault(tuple(context), []).append(response)
    while at < len(completion):
        found = calls.get(tuple(prompt + completion[:at]), [])
        fitting = [r for r in found if completion[at : at + len(r)] == r[: len(completion) - at]]
        length = min(max(map(len, fitting), default=0), len(completion) - at)
        mask[at : at + length] = [1] * length
        at += max(length, 1)
    return mask
