"""The engine that answers with a Python function."""

from scripted_engine import ScriptedEngine

from reason_envs.llm.engine import Engine, GenerationRequest, Sampling, TrainableEngine

CHAT = [{"role": "user", "content": "hé"}]


def test_scripted_engine_cuts_at_max_tokens_and_counts():
    engine = ScriptedEngine("12345")
    (short,) = engine.generate_batch([GenerationRequest(CHAT, 0, Sampling(3))])[0]
    (whole,) = engine.generate_batch([GenerationRequest([7, 8], 0)])[0]
    assert (short.text, short.finish_reason, short.prompt_ids) == ("123", "length", [ord("h"), ord("é")])
    assert (whole.text, whole.finish_reason, whole.prompt_ids) == ("12345", "stop", [7, 8])
    assert engine.generated_tokens == 8


def test_scripted_engine_cuts_text_at_stop_strings_and_keeps_their_tokens():
    engine = ScriptedEngine("ab\n\ncd\n")
    (cut, late, at_limit) = (
        engine.generate_batch([GenerationRequest(CHAT, 0, Sampling(limit, stop=stop))])[0][0]
        for limit, stop in ((20, ("\n\n", "d")), (3, ("\n\n",)), (4, ("\n\n",)))
    )
    assert (cut.text, bytes(cut.token_ids), cut.finish_reason, cut.stop_string) == ("ab", b"ab\n\n", "stop", "\n\n")
    assert (late.text, late.finish_reason, late.stop_string) == ("ab\n", "length", None)
    assert (at_limit.text, at_limit.finish_reason, at_limit.stop_string) == ("ab", "stop", "\n\n")
    assert engine.generated_tokens == 4 + 3 + 4


def test_scripted_engine_selects_from_a_list_by_seed():
    engine = ScriptedEngine(["a", "b", "c"])
    texts = [g.text for g in engine.generate_batch([GenerationRequest(CHAT, 1, n=60)])[0]]
    assert set(texts) == {"a", "b", "c"}
    assert texts == [g.text for g in engine.generate_batch([GenerationRequest(CHAT, 1, n=60)])[0]]


def test_scripted_engine_passes_request_and_seed_to_the_function():
    engine = ScriptedEngine(lambda request, seed: f"{request.prompt[0]['content']} {seed}")
    first, second = engine.generate_batch([GenerationRequest(CHAT, 5, n=2)])[0]
    assert first.text.startswith("hé ")
    assert first.text != second.text


def test_scripted_engine_is_not_trainable():
    engine = ScriptedEngine("")
    assert isinstance(engine, Engine)
    assert not isinstance(engine, TrainableEngine)
