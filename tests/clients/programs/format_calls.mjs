// What a JavaScript program does with the OpenAI SDK beside chatting, told as JSON. Its arguments: the base URL, and the key.

import OpenAI, { toFile } from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const sound = Buffer.concat([Buffer.from("RIFF"), Buffer.from(Array.from({ length: 2560 }, (_, at) => at % 256))]);
const told = {};

const text = await client.completions.create({ model: "codestral", prompt: "def f(", max_tokens: 9 });
told.completion = [text.model, text.choices[0].text];
told["completion stream"] = "";
for await (const piece of await client.completions.create({ model: "codestral", prompt: "def f(", stream: true }))
  told["completion stream"] += piece.choices[0].text;
const image = await client.images.generate({ model: "gpt-image-1", prompt: "A mill" });
told.image = image.data.map((entry) => entry.b64_json.slice(0, 8));
const file = () => toFile(sound, "a.wav");
told.transcription = (await client.audio.transcriptions.create({ model: "whisper-1", file: await file() })).text;
told["transcription stream"] = [];
for await (const event of await client.audio.transcriptions.create({ model: "whisper-1", file: await file(), stream: true }))
  told["transcription stream"].push(event.type);
const spoken = await client.audio.speech.create({ model: "gpt-4o-mini-tts", voice: "alloy", input: "Hello" });
told.speech = (await spoken.arrayBuffer()).byteLength;
const verdict = await client.moderations.create({ model: "omni-moderation-latest", input: "violence" });
told.moderation = verdict.results.map((result) => result.flagged);
const refused = await client.images.generate({ model: "gpt-image-1", prompt: "" }).catch((error) => error);
told.refused = [refused.status, refused.param];
console.log(JSON.stringify(told));
