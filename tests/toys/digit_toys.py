"""A toy for language policies: a random model learns in seconds to say the requested digit."""

from __future__ import annotations

import asyncio

import torch

from agents.evaluation.evaluate_policy import evaluate_policy
from agents.policies.language import LanguagePolicy, LanguagePolicyConfig
from agents.training.weight_sync import WeightSync
from reason_envs.core import derive_seed
from reason_envs.envs.single_turn_math import SingleTurnMath, SingleTurnMathConfig
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.tasks.base import Task
from reason_envs.tasks.task_list import ListTaskSet

WORDS = ("<pad>", "<eos>", "<user>", "<assistant>", "say", *map(str, range(10)))
TEMPLATE = "{% for message in messages %}<user> {{ message['content'] }} {% endfor %}<assistant>"


def save_digit_model(folder):
    """Write a random model with fifteen words and its tokenizer into a folder; return the folder's name."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = TEMPLATE
    config = Qwen3Config(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def digits():
    """Return the ten tasks."""
    return ListTaskSet("digits", "train", [Task(f"digit/{d}", f"say {d}", str(d)) for d in range(10)])


def say_digit(*, random=False):
    """Return the environment. It pays 1 for the requested digit, or at random (the control)."""

    async def reward(response, task, seed):
        correct = response.split()[:1] == [task.answer]
        paid = derive_seed(seed, "coin") % 2 if random else correct
        return float(paid), {"correct": correct}

    return SingleTurnMath(SingleTurnMathConfig(tasks=digits(), reward=reward))


def trained_accuracy(model, algorithm, config, steps, *, random=False, **options):
    """Train a policy on the toy; return the accuracy of sampled responses before and after."""
    policy = LanguagePolicy(LanguagePolicyConfig(model=model, device="cpu", max_tokens=1, **options), seed=0)
    policy.engine = TransformersEngine(model=model, device="cpu")
    environment = say_digit(random=random)
    learner = algorithm(config, policy, environment, digits(), total_steps=steps, seed=0)
    sync = WeightSync(policy, policy.engine)

    async def accuracy(seed):
        result, _ = await evaluate_policy(
            environment, policy, list(digits()), samples=16, seed=seed, sampling=policy.sampling
        )
        return result.accuracy

    async def run():
        await sync.push(0)
        before = await accuracy(0)
        for step in range(steps):
            learner.update(await learner.collect(step), step)
            await sync.push(step + 1)
        return before, await accuracy(1)

    return asyncio.run(run())
