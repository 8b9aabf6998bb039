"""A prompt that does not fit, in each vendor's words; and what is only said of something else."""

import pytest

from penstock.core.dialects.context_overflow import Overflow, overflow_in

VENDORS = {
    "anthropic": ("prompt is too long: 212345 tokens > 200000 maximum", 212_345, 200_000),
    "bedrock": ("Input is too long for requested model.", None, None),
    "openai": (
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 150012 tokens.",
        150_012,
        128_000,
    ),
    "openai-responses": (
        "Your input exceeds the context window of this model. Please adjust your input.",
        None,
        None,
    ),
    "deepseek": (
        "This model's maximum context length is 65536 tokens. However, you requested 70123 tokens (4000 of them new).",
        70_123,
        65_536,
    ),
    "openrouter": (
        "This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens (of text).",
        40_000,
        32_768,
    ),
    "vllm-without": ("The prompt is longer than the maximum context length of 4096 tokens.", None, 4096),
    "mistral": (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        None,
        32_768,
    ),
    "xai": (
        "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        140_000,
        131_072,
    ),
    "moonshot": ("Invalid request: Your request exceeded model token limit: 131072", None, 131_072),
    "zai": ("Prompt exceeds max length", None, None),
    "minimax": ("invalid params, context window exceeds limit", None, None),
    "dashscope": ("Range of input length should be [1, 129024]", None, 129_024),
    "llama-server": (
        "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
        9000,
        8192,
    ),
    "ollama": ("the input length exceeds the context length", None, None),
    "together": ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193.", None, 8193),
    "groq": ("Please reduce the length of the messages or completion.", None, None),
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendors_words_are_recognised_and_told_in_anthropics(vendor: str) -> None:
    said, tokens, most = VENDORS[vendor]
    found = overflow_in(said, b"")
    assert found is not None
    assert found == Overflow(tokens, most)
    wording = found.wording(said)
    assert wording.lower().startswith("prompt is too long")
    if tokens and most:
        assert wording == f"prompt is too long: {tokens} tokens > {most} maximum"
    elif vendor != "bedrock":
        assert said in wording


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"no","type":"invalid_request_error","code":"context_length_exceeded"}}',
        b'{"error":{"code":400,"message":"no","type":"exceed_context_size_error","n_prompt_tokens":9}}',
    ],
)
def test_a_code_says_it_as_well(body: bytes) -> None:
    found = overflow_in("no", body)
    assert found is not None
    assert found == Overflow()
    assert found.wording("no") == "prompt is too long: no"


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens is too large: 99999. This model supports at most 16384 completion tokens",
        "temperature must be at most 2",
        "The image is too long",
        "messages: at least one message is required",
        "maximum 128 tools",
        "",
    ],
)
def test_what_is_said_of_something_else(said: str) -> None:
    assert overflow_in(said, b'{"error":{"message":"x"}}') is None


def test_numbers_that_do_not_add_up_are_not_repeated() -> None:
    said = "This model's maximum context length is 128000 tokens. However, you requested 100 tokens"
    found = overflow_in(said, b"")
    assert found is not None
    assert found.wording(said) == f"prompt is too long: {said}"
