"""Names of OpenTelemetry's conventions that our traces use, each once: none of ``gen_ai`` is stable yet, so they change here.

The conventions for generative AI were read on 2026-11-30 (``open-telemetry/semantic-conventions-genai``, no release yet).
"""

from collections.abc import Mapping
from typing import Final

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_COST: Final = "gen_ai.usage.cost"
"""No name of the conventions: Langfuse takes it for the whole cost."""
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a kind of token
METRIC_TOKENS: Final = "gen_ai.client.token.usage"
METRIC_DURATION: Final = "gen_ai.client.operation.duration"
METRIC_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE: Final = "service.instance.id"

REQUEST_ID: Final = "penstock.request_id"
ACCOUNT_ID: Final = "penstock.account_id"
KEY_ID: Final = "penstock.key_id"
CLIENT: Final = "penstock.client"
OUTCOME: Final = "penstock.outcome"
COUNTED: Final = "penstock.counted"
ATTEMPT: Final = "penstock.attempt"
REASON: Final = "penstock.attempt.reason"
CREDENTIAL: Final = "penstock.credential"
UPSTREAM_REQUEST: Final = "penstock.upstream_request_id"
UPSTREAM_FORMAT: Final = "penstock.upstream_format"
MAYBE_BILLED: Final = "penstock.maybe_billed"
MODEL: Final = "penstock.model"
ATTEMPTS: Final = "penstock.attempts"
ESTIMATED: Final = "penstock.estimated"
COST: Final = "penstock.cost"

FORMER_NAMES: Final[Mapping[str, str]] = {
    PROVIDER: "gen_ai.system",
    CACHE_WRITE: "gen_ai.usage.cache_creation.input_tokens",
}
"""What some readers of traces still know these by."""

OPERATION_NAMES: Final[Mapping[str, str]] = {
    "chat": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
}
"""The operation of each kind of model that the conventions have a word for; of others the kind is the word."""

PROVIDER_NAMES: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai",
    "azure-anthropic": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "vertex-anthropic": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""The conventions' word for a vendor, by our row of it, where it is another word than ours."""
