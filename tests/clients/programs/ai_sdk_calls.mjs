// One conversation with a tool through each provider of the Vercel AI SDK, then a stream, told as JSON.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const { base, key, model } = JSON.parse(process.argv[2]);
const at = { baseURL: base, apiKey: key };
const models = {
  "ai-sdk-responses": createOpenAI(at)(model),
  "ai-sdk-openai": createOpenAI(at).chat(model),
  "ai-sdk-anthropic": createAnthropic(at)(model),
  "ai-sdk-compatible": createOpenAICompatible({ name: "penstock", includeUsage: true, ...at })(model),
};
const city = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

// The Responses provider refers to stored items unless it is told that nothing is stored.
const providerOptions = { openai: { store: false } };
const results = {};
for (const [name, chosen] of Object.entries(models)) {
  const prompt = `Weather in Rome? (of-${name})`;
  const seen = [];
  const weather = tool({
    description: "Look up the weather.",
    inputSchema: jsonSchema(city),
    execute: async (input) => {
      seen.push(input);
      return "Sunny.";
    },
  });
  const done = await generateText({
    model: chosen,
    prompt,
    tools: { weather },
    stopWhen: stepCountIs(3),
    maxRetries: 0,
    providerOptions,
  });
  let streamed = "";
  for await (const piece of streamText({ model: chosen, prompt, maxRetries: 0, providerOptions }).textStream) streamed += piece;
  results[name] = {
    tool: seen.length === 1 ? "weather" : "",
    arguments: seen[0] ?? null,
    text: done.text,
    streamed,
    tokens: done.usage.outputTokens ?? null,
  };
}
process.stdout.write(JSON.stringify(results));
