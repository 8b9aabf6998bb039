"""What a Python program does with embeddings, told as JSON: with the OpenAI SDK, or with LangChain on top of one.

Not a test and not imported by one: the argument says where the service is, with which key, and which of the two is meant.
"""

import json
import sys
from typing import Any

# pyright: reportMissingImports=false

GIVEN = json.loads(sys.argv[1])
BASE, KEY, MODEL, LIBRARY = GIVEN["base"], GIVEN["key"], GIVEN["model"], GIVEN["library"]


def openai_calls() -> dict[str, Any]:
    import openai  # noqa: PLC0415 - of the two, the one that is installed where this runs

    client = openai.OpenAI(api_key=KEY, base_url=BASE, max_retries=0)

    def told(answer: Any) -> dict[str, Any]:
        return {
            "model": answer.model,
            "vectors": [entry.embedding for entry in answer.data],
            "tokens": answer.usage.prompt_tokens,
        }

    def refused(**fields: Any) -> dict[str, Any]:
        try:
            client.embeddings.create(**fields)
        except openai.APIStatusError as error:
            return {
                "class": type(error).__name__,
                "text": error.message,
                "param": error.param,
                "code": error.code,
            }
        raise AssertionError("it was not refused")

    create = client.embeddings.create
    return {
        "text": told(create(model=MODEL, input="(of-openai) Hello")),
        "texts": told(create(model=MODEL, input=["(of-openai) Hello", "there"])),
        "floats": told(create(model=MODEL, input="(of-openai) Hello", encoding_format="float")),
        "dimensions": told(create(model=MODEL, input="(of-openai) Hello", dimensions=8)),
        "tokens": told(create(model=MODEL, input=[[1, 2], [3]], user="(of-openai)")),
        "empty": refused(model=MODEL, input=[]),
        "chat model": refused(model="claude-haiku-4.5", input="x"),
        "unknown": refused(model="no-such", input="x"),
        "models": {model.id: (model.model_extra or {})["kind"] for model in client.models.list()},
    }


def langchain_calls() -> dict[str, Any]:
    from langchain_openai import OpenAIEmbeddings  # noqa: PLC0415 - as above

    def embeddings(**more: Any) -> Any:
        return OpenAIEmbeddings(base_url=BASE, api_key=KEY, model=MODEL, max_retries=0, **more)

    tokens = embeddings(tiktoken_model_name="gpt-4o", dimensions=16)
    texts = embeddings(check_embedding_ctx_length=False)
    return {
        "documents": tokens.embed_documents(["Hello there", "Hello again", "hollow " * 9000]),
        "query": tokens.embed_query("Hello there"),
        "texts": texts.embed_documents(["(of-langchain) Hello"]),
    }


json.dump({"openai": openai_calls, "langchain": langchain_calls}[LIBRARY](), sys.stdout)
