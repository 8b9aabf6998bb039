"""Hosted tools told in words, for models and formats that have no form of their own for what a provider's tool did.

What a search found is told as title, address and text: never as the opaque blob by which its maker finds it again, for which
another model would be paid by the token and could not read a word of it.
"""

from penstock.core.neutral.request import Hosted


def told(hosted: Hosted) -> str:
    """What a tool of the provider did."""
    used = f"[used {hosted.name} with {hosted.input}]"
    found = "\n".join(
        "\n".join(line for line in (page.title, page.url, page.text) if line) for page in hosted.pages
    )
    result = "\n".join(text for text in (found, hosted.output) if text)
    if not result and not hosted.failed:
        return used
    return f"{used}\n[tool {'error' if hosted.failed else 'result'}: {result}]"
