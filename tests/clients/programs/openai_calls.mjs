// What a program does with the JavaScript OpenAI SDK, told as JSON: the same calls as openai_calls.py.
import OpenAI from "openai";

const given = JSON.parse(process.argv[2]);
const model = "claude-sonnet-4.6";
const city = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tools = ["weather", "population"].map((name) => ({
  type: "function",
  function: { name, description: "Look it up.", parameters: city, strict: true },
}));

const client = (plan = "pro", maxRetries = 0) =>
  new OpenAI({ apiKey: given.keys[plan], baseURL: given.base, maxRetries }).chat.completions;
const ask = (content, named = model, more = {}) => ({
  model: named,
  messages: [{ role: "user", content }],
  ...more,
});
const told = (completion) => {
  const { finish_reason, message } = completion.choices[0];
  return {
    model: completion.model,
    stop: finish_reason,
    text: message.content ?? "",
    calls: (message.tool_calls ?? []).map((call) => ({
      id: call.id,
      name: call.function.name,
      input: JSON.parse(call.function.arguments),
    })),
    input: completion.usage?.prompt_tokens ?? null,
    output: completion.usage?.completion_tokens ?? null,
  };
};
// The second turn: what the model said, and a result for each of its calls.
const answered = (first, asked) => {
  const { role, content, tool_calls = [] } = first.choices[0].message;
  const said = {
    role,
    content,
    tool_calls: tool_calls.map(({ id, function: called }) => ({
      id,
      type: "function",
      function: { name: called.name, arguments: called.arguments },
    })),
  };
  const results = said.tool_calls.map((call) => ({
    role: "tool",
    tool_call_id: call.id,
    content: `${call.function.name} of ${given.name}: 42`,
  }));
  return { ...asked, messages: [...asked.messages, said, ...results] };
};
const twoTurns = async (asked, plan = "pro") => {
  const first = await client(plan).create(asked);
  return { first: told(first), second: told(await client(plan).create(answered(first, asked))) };
};
const chunksOf = async (body, plan = "pro") => {
  const chunks = [];
  for await (const chunk of await client(plan).create({ ...body, stream: true })) chunks.push(chunk);
  return chunks;
};
const responder = () => new OpenAI({ apiKey: given.keys.pro, baseURL: given.base, maxRetries: 0 }).responses;
const responded = (response) => ({
  model: response.model,
  status: response.status,
  text: response.output_text,
  calls: response.output
    .filter((item) => item.type === "function_call")
    .map((item) => ({ id: item.call_id, name: item.name, input: JSON.parse(item.arguments) })),
  output: response.usage.output_tokens,
});
const usages = (chunks) => chunks.filter((chunk) => chunk.usage).map((chunk) => chunk.usage.completion_tokens);

const calls = {
  create: async () => told(await client().create(ask("Hello from create"))),
  stream: async () => {
    const chunks = await chunksOf(ask("Hello from create"));
    const choices = chunks.flatMap((chunk) => chunk.choices);
    return {
      text: choices.map((choice) => choice.delta.content ?? "").join(""),
      pieces: chunks.length,
      usages: usages(chunks),
      models: [...new Set(chunks.map((chunk) => chunk.model))],
      stop: choices.at(-1).finish_reason,
    };
  },
  stream_usage: async () => {
    const chunks = await chunksOf(ask("Hello from create", model, { stream_options: { include_usage: true } }));
    return { usages: usages(chunks), last: chunks.at(-1).choices.length };
  },
  helper: async () => {
    let streamed = "";
    const streaming = client().stream(ask("Hello from create"));
    streaming.on("content", (piece) => (streamed += piece));
    return { ...told(await streaming.finalChatCompletion()), streamed };
  },
  tools: () => twoTurns(ask(`Tools for ${given.name}`, model, { tools })),
  tools_streamed: async () => {
    const asked = ask(`Streamed tools for ${given.name}`, model, { tools });
    const first = await client().stream(asked).finalChatCompletion();
    const second = await client().stream(answered(first, asked)).finalChatCompletion();
    return { first: told(first), second: told(second) };
  },
  parallel: () => twoTurns(ask(`Two tools for ${given.name}`, "drill-two-tools", { tools }), "drills"),
  structured: async () => {
    const wanted = { type: "json_schema", json_schema: { name: "place", schema: city, strict: true } };
    return told(await client().create(ask("A place", model, { response_format: wanted })));
  },
  responses: async () => responded(await responder().create({ model, input: "Hello from create" })),
  responses_streamed: async () => {
    let streamed = "";
    const streaming = responder().stream({ model, input: "Hello from create" });
    streaming.on("response.output_text.delta", (event) => (streamed += event.delta));
    return { ...responded(await streaming.finalResponse()), streamed };
  },
  responses_tools: async () => {
    const offered = tools.map((tool) => ({ type: "function", ...tool.function }));
    const asked = [{ role: "user", content: `Tools of responses for ${given.name}` }];
    const first = await responder().create({ model, input: asked, tools: offered });
    const results = first.output
      .filter((item) => item.type === "function_call")
      .map((item) => ({
        type: "function_call_output",
        call_id: item.call_id,
        output: `${item.name} of ${given.name}: 42`,
      }));
    const input = [...asked, ...first.output, ...results];
    return { first: responded(first), second: responded(await responder().create({ model, input, tools: offered })) };
  },
  images: async () => {
    const shown = [
      { type: "text", text: `Images of ${given.name}` },
      { type: "image_url", image_url: { url: `data:image/png;base64,${given.png}` } },
      { type: "image_url", image_url: { url: "https://images.example/cat.jpg" } },
    ];
    return told(await client().create(ask(shown)));
  },
  models: async () => {
    const { models } = new OpenAI({ apiKey: given.keys.pro, baseURL: given.base });
    const listed = [];
    for await (const one of models.list()) listed.push(one.id);
    return { listed, one: (await models.retrieve("claude-haiku-4.5")).id };
  },
  wrong_key: async () => {
    const stranger = new OpenAI({ apiKey: "sk-ps-nobody", baseURL: given.base });
    return told(await stranger.chat.completions.create(ask("Hello")));
  },
  not_on_plan: async () => told(await client("free", 2).create(ask("Hello", "claude-opus-4.6"))),
  no_such_model: async () => told(await client().create(ask("Hello", "gpt-9"))),
  bad_field: async () => told(await client().create({ ...ask("Hello"), messages: [] })),
  too_long: async () => told(await client("drills").create(ask("Hello", "drill-refused"))),
  provider_fails: async () => told(await client("drills").create(ask("Hello", "drill-500"))),
  stream_fails: async () => (await chunksOf(ask("Hello", "drill-500"), "drills")).length,
  stream_breaks: async () => (await chunksOf(ask("Hello", "drill-breaks"), "drills")).length,
  day_spent: async () => {
    await client("one-a-day", 2).create(ask("Hello", "claude-haiku-4.5"));
    return told(await client("one-a-day", 2).create(ask("Hello", "claude-haiku-4.5")));
  },
  // Two at a time on a plan for one: the second is refused, waits as it is told, and gets through.
  at_once: async () => {
    const asked = ask(given.held, "drill-hold");
    const both = [1, 2].map(() => client("one-at-a-time", 4).create(asked));
    return (await Promise.all(both)).map(told);
  },
};

const results = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    results[name] = await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, param, type } = error;
    results[name] = { error: error.constructor.name, status, text: error.message, code, param, type };
  }
}
process.stdout.write(JSON.stringify(results));
