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
    assert (found.tokens, found.most, found.prompt) == (tokens, most, None)
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


_OPENAI = (
    "This model's maximum context length is 102400 tokens. However, you requested 107837 tokens (90645 in the messages, "
    "17192 in the completion). Please reduce the length of the messages or completion."
)
_SGLANG = (
    "Requested token count exceeds the model's maximum context length of 262144 tokens. You requested a total of 262462 "
    "tokens: 230462 tokens from the input messages and 32000 tokens for the completion."
)
_OPENROUTER = (
    "This endpoint's maximum context length is 262144 tokens. However, you requested about 262462 tokens (230400 of "
    "text input, 62 of tool input, 32000 in the output)."
)
_VLLM = (
    "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 40960 tokens "
    "and your request has 12000 input tokens (32000 > 40960 - 12000)."
)
_TGI = "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 3000 `inputs` tokens and 6000 `max_new_tokens`"
_ANTHROPIC = (
    "input length and `max_tokens` exceed context limit: 186433 + 9000 > 190500, decrease input length"
)
TOGETHER = {
    "openai": (_OPENAI, (90_645, 17_192, 102_400)),
    "sglang": (_SGLANG, (230_462, 32_000, 262_144)),
    "openrouter": (_OPENROUTER, (230_462, 32_000, 262_144)),
    "vllm": (_VLLM, (12_000, 32_000, 40_960)),
    "together": (_TGI, (3000, 6000, 8193)),
    "anthropic": (_ANTHROPIC, (186_433, 9000, 190_500)),
}


@pytest.mark.parametrize("vendor", TOGETHER)
def test_a_prompt_that_fits_without_its_answer_is_told_in_the_words_that_ask_for_a_shorter_one(
    vendor: str,
) -> None:
    said, (prompt, answer, most) = TOGETHER[vendor]
    found = overflow_in(said, b"")
    assert found is not None
    assert (found.prompt, found.answer, found.most) == (prompt, answer, most)
    wanted = f"input length and `max_tokens` exceed context limit: {prompt} + {answer} > {most}, "
    assert found.wording(said).startswith(wanted)


@pytest.mark.parametrize("left", [-5, 0, 3999, 4000])
def test_a_prompt_that_leaves_no_room_for_an_answer_is_too_long(left: int) -> None:
    prompt = 100_000 - left
    said = (
        f"maximum context length is 100000 tokens. However, you requested {prompt + 8000} tokens "
        f"({prompt} in the messages, 8000 in the completion)"
    )
    for text in (said, f"input length and max_tokens exceed context limit: {prompt} + 8000 > 100000"):
        found = overflow_in(text, b"")
        assert found is not None
        wording = found.wording(text)
        if left < 4000:
            assert wording == f"prompt is too long: {prompt + 8000} tokens > 100000 maximum"
        else:
            assert wording.startswith(
                f"input length and `max_tokens` exceed context limit: {prompt} + 8000 > 100000"
            )
