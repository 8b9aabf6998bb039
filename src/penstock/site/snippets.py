"""Snippets: programs that pages show, with the reader's own address and key in them."""

from collections.abc import Callable, Mapping

from penstock.core.catalog import ModelKind
from penstock.core.quoting import json_string, shell_word

Sample = tuple[str, str]
"""A name for its tab, and the text."""


def first_commands(base_url: str, key: str, model: str | None) -> list[Sample]:
    """The first request, in every language that is documented; none where no model is served."""
    if model is None:
        return []
    body = f'{{"model": {json_string(model)}, "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return [
        (
            "curl",
            f"""curl {shell_word(f"{base_url}/chat/completions")} \\
  -H {shell_word(f"Authorization: Bearer {key}")} \\
  -H "Content-Type: application/json" \\
  -d {shell_word(body)}""",
        ),
        (
            "Claude Code",
            f"""export ANTHROPIC_BASE_URL={shell_word(base_url)}
export ANTHROPIC_AUTH_TOKEN={shell_word(key)}
claude""",
        ),
        (
            "Python",
            f"""from openai import OpenAI

client = OpenAI(base_url={json_string(base_url)}, api_key={json_string(key)})
answer = client.chat.completions.create(
    model={json_string(model)},
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)""",
        ),
        (
            "Anthropic",
            f"""from anthropic import Anthropic

client = Anthropic(base_url={json_string(base_url)}, api_key={json_string(key)})
message = client.messages.create(
    model={json_string(model)},
    max_tokens=500,
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(message.content[0].text)""",
        ),
        (
            "JavaScript",
            f"""import OpenAI from "openai";

const client = new OpenAI({{ baseURL: {json_string(base_url)}, apiKey: {json_string(key)} }});
const answer = await client.chat.completions.create({{
  model: {json_string(model)},
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(answer.choices[0].message.content);""",
        ),
    ]


def first_embedding(base_url: str, key: str, model: str) -> list[Sample]:
    """The first request to an embedding model."""
    body = f'{{"model": {json_string(model)}, "input": "Hello"}}'
    return [
        (
            "curl",
            f"""curl {shell_word(f"{base_url}/embeddings")} \\
  -H {shell_word(f"Authorization: Bearer {key}")} \\
  -H "Content-Type: application/json" \\
  -d {shell_word(body)}""",
        ),
        (
            "Python",
            f"""from openai import OpenAI

client = OpenAI(base_url={json_string(base_url)}, api_key={json_string(key)})
answer = client.embeddings.create(model={json_string(model)}, input=["Hello"])
print(len(answer.data[0].embedding))""",
        ),
        (
            "JavaScript",
            f"""import OpenAI from "openai";

const client = new OpenAI({{ baseURL: {json_string(base_url)}, apiKey: {json_string(key)} }});
const answer = await client.embeddings.create({{ model: {json_string(model)}, input: ["Hello"] }});
console.log(answer.data[0].embedding.length);""",
        ),
    ]


def _curl(path: str, *fields: tuple[str, str]) -> Callable[[str, str, str], list[Sample]]:
    """The first request to a model that is called at this path with these fields of JSON text."""

    def samples(base_url: str, key: str, model: str) -> list[Sample]:
        body = ", ".join(f'"{name}": {value}' for name, value in (("model", json_string(model)), *fields))
        return [
            (
                "curl",
                f"""curl {shell_word(f"{base_url}{path}")} \\
  -H {shell_word(f"Authorization: Bearer {key}")} \\
  -H "Content-Type: application/json" \\
  -d {shell_word(f"{{{body}}}")}""",
            )
        ]

    return samples


def _first_transcription(base_url: str, key: str, model: str) -> list[Sample]:
    return [
        (
            "curl",
            f"""curl {shell_word(f"{base_url}/audio/transcriptions")} \\
  -H {shell_word(f"Authorization: Bearer {key}")} \\
  -F {shell_word(f"model={model}")} \\
  -F file=@recording.wav""",
        )
    ]


SAMPLES: Mapping[ModelKind, Callable[[str, str, str], list[Sample]]] = {
    "embedding": first_embedding,
    "completion": _curl("/completions", ("prompt", '"Water flows"'), ("max_tokens", "16")),
    "image": _curl("/images/generations", ("prompt", '"A water mill"')),
    "transcription": _first_transcription,
    "speech": _curl("/audio/speech", ("input", '"Hello"'), ("voice", '"alloy"')),
    "rerank": _curl("/rerank", ("query", '"What turns a mill?"'), ("documents", '["Water", "Stone"]')),
    "moderation": _curl("/moderations", ("input", '"Hello"')),
}
"""The first request to a model of each kind that does not chat: from base URL, key and model."""
