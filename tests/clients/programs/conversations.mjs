// One conversation that changes its model at every turn, through the Vercel AI SDK and the libraries of Cline and Continue,
// told as JSON: conversations.py says what it holds.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createHandlerAsync } from "@cline/llms";
import { constructLlmApi } from "@continuedev/openai-adapters";
import { isStepCount, jsonSchema, streamText, tool } from "ai";

const { base, key, turns } = JSON.parse(process.argv[2]);
const at = { baseURL: base, apiKey: key };
const RESULT = "Sunny.";
const description = "Look up the weather.";
const city = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const told = (used, text) => ({ tool: used.name, arguments: used.arguments, text });

// ---- the Vercel AI SDK

// The Responses provider refers to stored items unless it is told that nothing is stored.
const providerOptions = {
  openai: { store: false, reasoningEffort: "low", reasoningSummary: "auto", include: ["reasoning.encrypted_content"] },
  anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } },
};

const withAiSdk = (choose) => async (prompts) => {
  const messages = [];
  const results = [];
  for (const [model, prompt] of prompts) {
    const seen = [];
    messages.push({ role: "user", content: prompt });
    const execute = async (input) => {
      seen.push({ name: "weather", arguments: input });
      return RESULT;
    };
    const stream = streamText({
      model: choose(model),
      messages,
      tools: { weather: tool({ description, inputSchema: jsonSchema(city), execute }) },
      stopWhen: isStepCount(3),
      maxRetries: 0,
      providerOptions,
      onError: ({ error }) => {
        throw error;
      },
    });
    await stream.consumeStream();
    messages.push(...(await stream.responseMessages));
    results.push(told(seen[0], await stream.text));
  }
  return results;
};

// ---- Cline: a history of blocks as Cline keeps it

const withCline = (providerId) => async (prompts) => {
  const messages = [];
  const results = [];
  const ask = async (modelId) => {
    const handler = await createHandlerAsync({ providerId, modelId, apiKey: key, baseUrl: base, reasoningEffort: "low" });
    const blocks = [];
    const tools = [{ name: "weather", description, inputSchema: city }];
    for await (const chunk of handler.createMessage("You look up the weather.", messages, tools)) {
      const last = blocks.at(-1);
      if (chunk.type === "text") {
        if (last?.type === "text") last.text += chunk.text;
        else blocks.push({ type: "text", text: chunk.text });
      } else if (chunk.type === "reasoning") {
        if (last?.type === "thinking") {
          last.thinking += chunk.reasoning;
          last.signature ??= chunk.signature;
        } else blocks.push({ type: "thinking", thinking: chunk.reasoning, signature: chunk.signature });
      } else if (chunk.type === "tool_calls") {
        const { id, name, arguments: input } = chunk.tool_call.function;
        blocks.push({ type: "tool_use", id, name, input: typeof input === "string" ? JSON.parse(input) : input });
      } else if (chunk.type === "done" && !chunk.success) throw new Error(chunk.error);
    }
    messages.push({ role: "assistant", content: blocks });
    return blocks;
  };
  for (const [model, prompt] of prompts) {
    messages.push({ role: "user", content: [{ type: "text", text: prompt }] });
    const call = (await ask(model)).find((block) => block.type === "tool_use");
    const result = { type: "tool_result", tool_use_id: call.id, name: call.name, content: RESULT };
    messages.push({ role: "user", content: [result] });
    const text = (await ask(model)).findLast((block) => block.type === "text").text;
    results.push(told({ name: call.name, arguments: call.input }, text));
  }
  return results;
};

// ---- Continue: a history in the Chat format, whatever the provider

const withContinue = (provider, method) => async (prompts) => {
  const api = constructLlmApi({ provider, apiKey: key, apiBase: base });
  const messages = [{ role: "system", content: "You look up the weather." }];
  const results = [];
  const ask = async (model) => {
    const message = { role: "assistant", content: "", tool_calls: [] };
    const tools = [{ type: "function", function: { name: "weather", description, parameters: city } }];
    const body = { model, messages, tools, stream: true };
    for await (const chunk of api[method](body, new AbortController().signal)) {
      const delta = chunk.choices[0]?.delta ?? {};
      message.content += delta.content ?? "";
      for (const piece of delta.tool_calls ?? []) {
        message.tool_calls[piece.index ?? 0] ??= { id: piece.id, type: "function", function: { name: "", arguments: "" } };
        const call = message.tool_calls[piece.index ?? 0];
        call.function.name ||= piece.function?.name ?? "";
        call.function.arguments += piece.function?.arguments ?? "";
      }
    }
    message.tool_calls = message.tool_calls.filter(Boolean); // a call's index may count what came before it
    if (message.tool_calls.length === 0) delete message.tool_calls;
    messages.push(message);
    return message;
  };
  for (const [model, prompt] of prompts) {
    messages.push({ role: "user", content: prompt });
    const [call] = (await ask(model)).tool_calls;
    messages.push({ role: "tool", tool_call_id: call.id, content: RESULT });
    const { content } = await ask(model);
    results.push(told({ name: call.function.name, arguments: JSON.parse(call.function.arguments) }, content));
  }
  return results;
};

const clients = {
  "ai-sdk-responses": withAiSdk(createOpenAI(at)),
  "ai-sdk-chat": withAiSdk(createOpenAI(at).chat),
  "ai-sdk-messages": withAiSdk(createAnthropic(at)),
  "ai-sdk-compatible": withAiSdk(createOpenAICompatible({ name: "penstock", includeUsage: true, ...at })),
  "cline-compatible": withCline("openai-compatible"),
  "cline-openai": withCline("openai-native"),
  "cline-anthropic": withCline("anthropic"),
  "continue-chat": withContinue("openai", "chatCompletionStream"),
  "continue-responses": withContinue("openai", "responsesStream"),
  "continue-messages": withContinue("anthropic", "chatCompletionStream"),
};
const results = {};
for (const [name, converse] of Object.entries(clients)) {
  try {
    results[name] = await converse(turns.map(([model, prompt]) => [model, `${prompt} (of-${name})`]));
  } catch (error) {
    results[name] = { error: String(error?.stack ?? JSON.stringify(error)) };
  }
}
process.stdout.write(JSON.stringify(results));
