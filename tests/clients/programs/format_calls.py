"""What a Python program does with the OpenAI SDK beside chatting, told as JSON: one call of each kind, and one that is refused.

Its arguments: the base URL, and the key.
"""

import json
import sys

from openai import BadRequestError, OpenAI

base, key = sys.argv[1:]
client = OpenAI(base_url=base, api_key=key, max_retries=0)
sound = b"RIFF" + bytes(range(256)) * 10
told: dict[str, object] = {}

text = client.completions.create(model="codestral", prompt="(of-formats) def f(", suffix=")", max_tokens=9)
told["completion"] = [text.model, text.choices[0].text]
pieces = client.completions.create(model="codestral", prompt="(of-formats) def f(", stream=True)
told["completion stream"] = "".join(piece.choices[0].text for piece in pieces)
image = client.images.generate(model="gpt-image-1", prompt="(of-formats) A mill", n=2)
told["image"] = [(entry.b64_json or "")[:8] for entry in image.data or []]
told["image stream"] = [
    event.type for event in client.images.generate(model="gpt-image-1", prompt="x", stream=True)
]
file = ("a.wav", sound)
heard = client.audio.transcriptions.create(model="whisper-1", file=file)
told["transcription"] = heard.text
told["transcription text"] = client.audio.transcriptions.create(
    model="whisper-1", file=file, response_format="text"
)
told["transcription stream"] = [
    event.type for event in client.audio.transcriptions.create(model="whisper-1", file=file, stream=True)
][-1]
told["translation"] = client.audio.translations.create(  # pyright: ignore[reportDeprecated] - it is what callers have
    model="whisper-1", file=file
).text
with client.audio.speech.with_streaming_response.create(
    model="gpt-4o-mini-tts", voice="alloy", input="(of-formats) Hello", response_format="wav"
) as spoken:
    told["speech type"] = spoken.headers["content-type"]
    told["speech"] = sum(len(piece) for piece in spoken.iter_bytes())
verdict = client.moderations.create(model="omni-moderation-latest", input=["violence", "Hello"])
told["moderation"] = [result.flagged for result in verdict.results]
try:
    client.images.generate(model="gpt-image-1", prompt="")
except BadRequestError as error:
    told["refused"] = [error.status_code, error.param]
json.dump(told, sys.stdout)
