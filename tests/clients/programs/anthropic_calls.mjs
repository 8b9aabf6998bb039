// What a program does with the JavaScript Anthropic SDK, told as JSON: the same calls as anthropic_calls.py.
import Anthropic from "@anthropic-ai/sdk";

const given = JSON.parse(process.argv[2]);
const model = "claude-sonnet-4.6";
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = ["weather", "population"].map((name) => ({ name, description: "Look it up.", input_schema: city }));

const client = (plan = "pro", maxRetries = 0) =>
  new Anthropic({ apiKey: given.keys[plan], baseURL: given.base, maxRetries });
const ask = (content, named = model, more = {}) => ({
  model: named,
  max_tokens: 2000,
  messages: [{ role: "user", content }],
  ...more,
});
const texts = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text);
const told = (message) => ({
  model: message.model,
  stop: message.stop_reason,
  kinds: message.content.map((block) => block.type),
  text: texts(message).join(""),
  calls: message.content
    .filter((block) => block.type === "tool_use")
    .map(({ id, name, input }) => ({ id, name, input })),
  input: message.usage.input_tokens,
  output: message.usage.output_tokens,
});
// The second turn: what the model said, and a result for each of its calls.
const answered = (first, asked) => ({
  ...asked,
  messages: [
    ...asked.messages,
    { role: "assistant", content: first.content },
    {
      role: "user",
      content: first.content
        .filter((block) => block.type === "tool_use")
        .map((block) => ({
          type: "tool_result",
          tool_use_id: block.id,
          content: `${block.name} of ${given.name}: 42`,
        })),
    },
  ],
});
const twoTurns = async (asked, plan = "pro") => {
  const first = await client(plan).messages.create(asked);
  return { first: told(first), second: told(await client(plan).messages.create(answered(first, asked))) };
};

const calls = {
  create: async () => told(await client().messages.create(ask("Hello from create"))),
  stream: async () => {
    const kinds = [];
    let text = "";
    for await (const event of await client().messages.create({ ...ask("Hello from create"), stream: true })) {
      kinds.push(event.type);
      if (event.type === "content_block_delta" && event.delta.type === "text_delta") text += event.delta.text;
    }
    const pieces = kinds.filter((kind) => kind === "content_block_delta").length;
    return { first: kinds[0], last: kinds.at(-1), pieces, text };
  },
  helper: async () => {
    let streamed = "";
    const streaming = client().messages.stream(ask("Hello from create"));
    streaming.on("text", (piece) => (streamed += piece));
    return { ...told(await streaming.finalMessage()), streamed };
  },
  tools: () => twoTurns(ask(`Tools for ${given.name}`, model, { tools })),
  tools_streamed: async () => {
    const asked = ask(`Streamed tools for ${given.name}`, model, { tools });
    const first = await client().messages.stream(asked).finalMessage();
    return { first: told(first), second: told(await client().messages.stream(answered(first, asked)).finalMessage()) };
  },
  parallel: () => twoTurns(ask(`Two tools for ${given.name}`, "drill-two-tools", { tools }), "drills"),
  thinking: async () => {
    const more = { tools, thinking: { type: "enabled", budget_tokens: 1024 } };
    const asked = ask(`Think for ${given.name}`, "drill-thinks", more);
    const first = await client("drills").messages.stream(asked).finalMessage();
    return { first: told(first), second: told(await client("drills").messages.create(answered(first, asked))) };
  },
  images: async () => {
    const base64 = { type: "base64", media_type: "image/png", data: given.png };
    const shown = [
      { type: "image", source: base64 },
      { type: "image", source: { type: "url", url: "https://images.example/cat.jpg" } },
      { type: "text", text: `Images of ${given.name}` },
    ];
    return told(await client().messages.create(ask(shown)));
  },
  models: async () => {
    const listed = [];
    for await (const one of client().models.list({ limit: 1000 })) listed.push(one.id);
    const one = await client().models.retrieve("claude-haiku-4.5");
    return { listed, one: one.id, name: one.display_name };
  },
  count: async () => {
    const counted = await client().messages.countTokens({ model, messages: [{ role: "user", content: "Hello" }] });
    return { tokens: counted.input_tokens };
  },
  wrong_key: async () =>
    told(await new Anthropic({ apiKey: "sk-ps-nobody", baseURL: given.base }).messages.create(ask("Hello"))),
  not_on_plan: async () => told(await client("free", 2).messages.create(ask("Hello", "claude-opus-4.6"))),
  no_such_model: async () => told(await client().messages.create(ask("Hello", "gpt-9"))),
  bad_field: async () => told(await client().messages.create({ ...ask("Hello"), messages: [] })),
  too_long: async () => told(await client("drills").messages.create(ask("Hello", "drill-refused"))),
  provider_fails: async () => told(await client("drills").messages.create(ask("Hello", "drill-500"))),
  stream_fails: async () => told(await client("drills").messages.stream(ask("Hello", "drill-500")).finalMessage()),
  stream_breaks: async () =>
    told(await client("drills").messages.stream(ask("Hello", "drill-breaks")).finalMessage()),
  day_spent: async () => {
    await client("one-a-day", 2).messages.create(ask("Hello", "claude-haiku-4.5"));
    return told(await client("one-a-day", 2).messages.create(ask("Hello", "claude-haiku-4.5")));
  },
  // Two at a time on a plan for one: the second is refused, waits as it is told, and gets through.
  at_once: async () => {
    const asked = ask(given.held, "drill-hold");
    const both = [1, 2].map(() => client("one-at-a-time", 4).messages.create(asked));
    return (await Promise.all(both)).map(told);
  },
};

const results = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    results[name] = await call();
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    results[name] = { error: error.constructor.name, status: error.status, text: error.message };
  }
}
process.stdout.write(JSON.stringify(results));
