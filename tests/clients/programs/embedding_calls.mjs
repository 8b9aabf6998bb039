// What a JavaScript program does with embeddings, told as JSON: with the OpenAI SDK and with the Vercel AI SDK.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, embedMany } from "ai";
import OpenAI from "openai";

const { base, key, model } = JSON.parse(process.argv[2]);

async function openai() {
  const client = new OpenAI({ baseURL: base, apiKey: key, maxRetries: 0 });
  const told = (answer) => ({
    model: answer.model,
    vectors: answer.data.map((entry) => Array.from(entry.embedding)),
    tokens: answer.usage.prompt_tokens,
  });
  const refused = await client.embeddings.create({ model, input: [] }).catch((error) => error);
  return {
    text: told(await client.embeddings.create({ model, input: "(of-openai-js) Hello" })),
    texts: told(await client.embeddings.create({ model, input: ["(of-openai-js) Hello", "there"], dimensions: 8 })),
    floats: told(await client.embeddings.create({ model, input: "(of-openai-js) Hello", encoding_format: "float" })),
    refused: { status: refused.status, param: refused.param, text: refused.message },
  };
}

async function aiSdk(provider, name) {
  const one = await embed({ model: provider, value: `(of-${name}) Hello`, maxRetries: 0 });
  const many = await embedMany({ model: provider, values: [`(of-${name}) Hello`, "there"], maxRetries: 0 });
  return { one: one.embedding, many: many.embeddings, tokens: one.usage.tokens };
}

const own = createOpenAI({ baseURL: base, apiKey: key });
const compatible = createOpenAICompatible({ name: "penstock", baseURL: base, apiKey: key });
console.log(
  JSON.stringify({
    openai: await openai(),
    "ai-sdk-openai": await aiSdk(own.textEmbeddingModel(model), "ai-sdk-openai"),
    "ai-sdk-compatible": await aiSdk(compatible.textEmbeddingModel(model), "ai-sdk-compatible"),
  }),
);
