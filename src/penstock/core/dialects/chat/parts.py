"""The parts of a Chat message that are more than their text: images, files, and the many carriers of reasoning."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from penstock.core.dialects.chat import request_schema as wire
from penstock.core.neutral.request import CacheTtl, Document, Image, Text, Thought
from penstock.errors import InvalidRequest

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def thoughts(message: wire.Assistant) -> list[Thought]:
    """The reasoning that a caller sends back, from whichever carrier keeps most of it."""
    if message.thinking_blocks:
        return [
            Thought(redacted=block.data)
            if block.data is not None
            else Thought(block.thinking, block.signature)
            for block in message.thinking_blocks
        ]
    details = _joined(message.reasoning_details or [])
    if any(entry.signature or entry.data for entry in details):
        return [
            Thought(redacted=entry.data)
            if entry.data is not None
            else Thought(entry.text or entry.summary or "", entry.signature)
            for entry in details
        ]
    if message.reasoning_opaque:
        return [Thought(message.reasoning_text or "", message.reasoning_opaque)]
    text = message.reasoning_content or message.reasoning or message.reasoning_text
    if not text:
        text = "".join(entry.text or entry.summary or "" for entry in details)
    return [Thought(text)] if text else []


def _joined(details: list[wire.Detail]) -> list[wire.Detail]:
    """Entries of one index as one: a caller that just keeps the deltas of a stream sends them back in pieces."""
    joined: list[wire.Detail] = []
    for entry in details:
        last = joined[-1] if joined else None
        if last is None or entry.index is None or (last.index, last.type) != (entry.index, entry.type):
            joined.append(entry)
            continue
        joined[-1] = wire.Detail(
            entry.type,
            entry.index,
            text=(last.text or "") + (entry.text or ""),
            summary=(last.summary or "") + (entry.summary or ""),
            data=last.data if entry.data is None else (last.data or "") + entry.data,
            signature=entry.signature or last.signature,
            format=last.format or entry.format,
        )
    return joined


def image(source: wire.ImageUrl, where: str, cache: CacheTtl | None) -> Image:
    return image_at(source.url, source.detail, f"{where}.image_url.url", cache)


def image_at(url: str, detail: str | None, param: str, cache: CacheTtl | None) -> Image:
    """An image given by an http(s) or a data URL. Raises ``InvalidRequest`` naming ``param``."""
    if url.startswith(("https://", "http://")):
        return Image(url=url, detail=detail, cache=cache)
    media_type, data = _data_url(url, param)
    if media_type == "image/jpg":
        media_type = "image/jpeg"
    if media_type not in _IMAGE_TYPES:
        raise InvalidRequest(f"{param}: images must be JPEG, PNG, GIF or WebP.", param=param)
    return Image(media_type=media_type, data=data, detail=detail, cache=cache)


def image_url(image: Image, *, urls: bool) -> dict[str, object]:
    """The ``image_url`` for an image. ``urls``: the upstream takes http(s) URLs. Raises ``InvalidRequest``."""
    if image.url is None:
        url = f"data:{image.media_type};base64,{image.data}"
    elif urls:
        url = image.url
    else:
        raise InvalidRequest(
            "messages: this model takes images as base64 data only, not by URL.", param="messages"
        )
    return {"url": url} if image.detail is None else {"url": url, "detail": image.detail}


def document(file: wire.FileContent, where: str, cache: CacheTtl | None) -> Document:
    if file.file_id is not None:
        param = f"{where}.file.file_id"
        raise InvalidRequest(f"{param}: stored files are not available; send file_data.", param=param)
    param = f"{where}.file.file_data"
    if not file.file_data:
        raise InvalidRequest(f"{param} is required.", param=param)
    return document_of(file.file_data, file.filename, param, cache)


def document_of(file_data: str, title: str | None, param: str, cache: CacheTtl | None) -> Document:
    """A file given as a data URL, or a PDF as base64. Raises ``InvalidRequest`` naming ``param``."""
    if file_data.startswith("data:"):
        media_type, data = _data_url(file_data, param)
    else:
        media_type, data = "application/pdf", file_data
    if media_type == "application/pdf":
        return Document(media_type=media_type, data=data, title=title, cache=cache)
    if media_type.startswith("text/") or media_type == "application/json":
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{param}: not base64 of UTF-8 text.", param=param) from error
        return Document(media_type="text/plain", data=text, title=title, cache=cache)
    raise InvalidRequest(f"{param}: files must be PDF or text.", param=param)


def document_text(document: Document) -> Text:
    """A text document as text, under its title."""
    text = document.data or ""
    return Text(f"{document.title}\n\n{text}" if document.title else text, document.cache)


def _data_url(url: str, param: str) -> tuple[str, str]:
    """Media type and base64 data of a data URL, without its parameters."""
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise InvalidRequest(f"{param} must be an http(s) or a data URL.", param=param)
    media_type, *parameters = head.removeprefix("data:").split(";")
    if "base64" not in parameters:
        data = base64.b64encode(unquote_to_bytes(data)).decode("ascii")
    return media_type.strip().lower(), data
