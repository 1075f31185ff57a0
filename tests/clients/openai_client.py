"""OpenAI's own client for Python against a server of the demo model: openai_client.py ADDRESS."""

import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
PROMPT = "It is a truth universally acknowledged, that"

models = client.models.list().data
assert [model.id for model in models] == ["austen"], models
assert client.models.retrieve("austen").id == "austen"

# Completions: whole, of several prompts, echoed, streamed.
whole = client.completions.create(model="austen", prompt=PROMPT, max_tokens=12, temperature=0)
assert whole.choices[0].finish_reason == "length"
assert whole.usage.completion_tokens == 12
several = client.completions.create(
    model="austen", prompt=[PROMPT, "She was"], n=2, max_tokens=12, seed=1, best_of=3
)
assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
echoed = client.completions.create(
    model="austen", prompt=PROMPT, max_tokens=1, temperature=0, echo=True, logprobs=2
)
scores = echoed.choices[0].logprobs
assert echoed.choices[0].text.startswith(PROMPT)
assert scores.token_logprobs[0] is None and scores.top_logprobs[0] is None
for token, score, top in list(zip(scores.tokens, scores.token_logprobs, scores.top_logprobs))[1:]:
    assert top[token] == score
stream = client.completions.create(
    model="austen",
    prompt=PROMPT,
    max_tokens=12,
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
)
events = list(stream)
text = "".join(choice.text for event in events for choice in event.choices)
assert text == whole.choices[0].text, (text, whole.choices[0].text)
assert events[-1].usage.completion_tokens == 12
assert all(event.usage is None for event in events[:-1])
with client.completions.create(model="austen", prompt=PROMPT, max_tokens=200, stream=True) as cut:
    next(iter(cut))

# Chat.
messages = [{"role": "user", "content": "How do you do?"}]
reply = client.chat.completions.create(
    model="austen", messages=messages, max_tokens=12, temperature=0, logprobs=True, top_logprobs=2
)
assert reply.choices[0].message.role == "assistant"
assert len(reply.choices[0].logprobs.content[0].top_logprobs) == 2
chunks = client.chat.completions.create(
    model="austen", messages=messages, max_completion_tokens=12, temperature=0, stream=True
)
parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
assert "".join(parts) == reply.choices[0].message.content

# Embeddings: the client asks for base64 unless told otherwise.
packed = client.embeddings.create(model="austen", input=["She was happy.", "x"])
plain = client.embeddings.create(
    model="austen", input=["She was happy.", "x"], encoding_format="float"
)
for one, other in zip(packed.data, plain.data):
    assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding)) < 1e-6
assert len(packed.data[0].embedding) == 256


def refused(error, code, **request):
    try:
        client.completions.create(**{"model": "austen", "prompt": PROMPT, **request})
    except error as found:
        assert found.code == code, found
        assert found.message, found
    else:
        raise AssertionError(f"{request} was not refused")


refused(openai.NotFoundError, "model_not_found", model="davinci")
refused(openai.BadRequestError, "unsupported_parameter", suffix="end")
refused(openai.BadRequestError, "context_length_exceeded", max_tokens=5000)
refused(openai.BadRequestError, "invalid_value", temperature=-1)
refused(openai.BadRequestError, "unknown_parameter", extra_body={"temprature": 1})
print("openai for Python", openai.__version__, "works")
