"""The format of Cohere's rerank, which Jina, Voyage, vLLM and llama-server have too: a query and documents, put in order."""

from msgspec import Raw

from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.interface import Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.requests import given, json_format, listed, pass_request

NAME = "rerank"
MAX_DOCUMENTS = 10_000
"""Documents in one request: Cohere's documented limit."""

_ORDINARY = frozenset(
    {
        "top_n", "top_k", "return_documents", "max_chunks_per_doc", "max_tokens_per_doc", "rank_fields",
        "truncation", "user",
    }
)  # fmt: skip


def _check(fields: dict[str, Raw]) -> None:
    given(fields, "query")
    listed(fields, "documents", MAX_DOCUMENTS)


CALLER = json_format(_ORDINARY, Member("query", Form.NAME, required=True), _check, unscanned="documents")
UPSTREAM = UpstreamFormat(
    path=lambda _model, _stream: b"/rerank",
    error_text=error_text,
    # Voyage calls the list data
    passing=Passing(pass_request, None, WholeAnswers(("results", "data"))),
)
