"""Snippets: programs that pages show, with the reader's own address and key in them."""

Sample = tuple[str, str]
"""A name for its tab, and the text."""


def first_commands(base_url: str, key: str, model: str) -> list[Sample]:
    """The first request, in every language that is documented."""
    bare = base_url.removesuffix("/api/v1")
    return [
        (
            "curl",
            f"""curl {base_url}/chat/completions \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'""",
        ),
        (
            "Claude Code",
            f"""export ANTHROPIC_BASE_URL={bare}/api
export ANTHROPIC_AUTH_TOKEN={key}
claude""",
        ),
        (
            "Python",
            f"""from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key="{key}")
answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)""",
        ),
        (
            "Anthropic",
            f"""from anthropic import Anthropic

client = Anthropic(base_url="{bare}/api", api_key="{key}")
message = client.messages.create(
    model="{model}",
    max_tokens=500,
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(message.content[0].text)""",
        ),
        (
            "JavaScript",
            f"""import OpenAI from "openai";

const client = new OpenAI({{ baseURL: "{base_url}", apiKey: "{key}" }});
const answer = await client.chat.completions.create({{
  model: "{model}",
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(answer.choices[0].message.content);""",
        ),
    ]


def first_embedding(base_url: str, key: str, model: str) -> list[Sample]:
    """The first request to an embedding model."""
    return [
        (
            "curl",
            f"""curl {base_url}/embeddings \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "input": "Hello"}}'""",
        ),
        (
            "Python",
            f"""from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key="{key}")
answer = client.embeddings.create(model="{model}", input=["Hello"])
print(len(answer.data[0].embedding))""",
        ),
        (
            "JavaScript",
            f"""import OpenAI from "openai";

const client = new OpenAI({{ baseURL: "{base_url}", apiKey: "{key}" }});
const answer = await client.embeddings.create({{ model: "{model}", input: ["Hello"] }});
console.log(answer.data[0].embedding.length);""",
        ),
    ]
