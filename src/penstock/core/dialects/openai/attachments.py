"""Attachments of OpenAI's formats: images and files as http(s) and data URLs, and as base64."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from penstock.core.neutral.request import CacheTtl, Document, Image, Text
from penstock.errors import InvalidRequest

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


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
