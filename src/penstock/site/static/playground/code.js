// A request as programs: with curl the very bytes that were sent, with the SDKs the same fields and values.
//
// `request` is {format, url, base, headers: [[name, value]], body}; `body` is the text that was sent.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// Of the fields of a body those that the newest Python SDKs take by name; the others go by way of `extra_body`.
const NAMED = {
  chat: ["model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "reasoning_effort", "response_format", "tools", "tool_choice", "parallel_tool_calls"],
  responses: ["model", "input", "instructions", "stream", "store", "max_output_tokens", "temperature", "top_p", "reasoning", "include", "text", "tools", "tool_choice", "parallel_tool_calls"],
  messages: ["model", "max_tokens", "messages", "system", "stream", "stop_sequences", "thinking", "output_config", "tools", "tool_choice"],
};
const CALLS = {
  chat: { python: "client.chat.completions.create", javascript: "client.chat.completions.create" },
  responses: { python: "client.responses.create", javascript: "client.responses.create" },
  messages: { python: "client.messages.create", javascript: "client.messages.create" },
};
const PRINTS = {
  chat: {
    python: 'for chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)',
    javascript: 'for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");',
  },
  responses: {
    python: 'for event in stream:\n    if event.type == "response.output_text.delta":\n        print(event.delta, end="", flush=True)',
    javascript: 'for await (const event of stream) {\n  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);\n}',
  },
  messages: {
    python: 'for event in stream:\n    if event.type == "content_block_delta" and event.delta.type == "text_delta":\n        print(event.delta.text, end="", flush=True)',
    javascript: 'for await (const event of stream) {\n  if (event.type === "content_block_delta" && event.delta.type === "text_delta") process.stdout.write(event.delta.text);\n}',
  },
};

const pythonOf = (value, indent = "") => {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}    `;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const entries = Array.isArray(value)
    ? value.map((one) => pythonOf(one, deeper))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pythonOf(one, deeper)}`);
  return entries.length ? `${open}\n${entries.map((entry) => `${deeper}${entry},\n`).join("")}${indent}${close}` : open + close;
};

export const curl = ({ url, headers, body }) => {
  const named = headers.map(([name, value]) => `  -H ${quoted(`${name}: ${value}`)} \\\n`).join("");
  // No line of JSON is the word alone, so the text ends where it ends; and it may be longer than an argument can be.
  return `curl -N ${quoted(url)} \\\n${named}  --data-binary @- <<'JSON'\n${body}JSON`;
};

export const python = ({ format, base, key, body }) => {
  const fields = Object.entries(JSON.parse(body));
  const known = NAMED[format];
  const lines = fields.filter(([name]) => known.includes(name)).map(([name, value]) => `    ${name}=${pythonOf(value, "    ")},\n`);
  const others = fields.filter(([name]) => !known.includes(name));
  if (others.length) lines.push(`    extra_body=${pythonOf(Object.fromEntries(others), "    ")},\n`);
  const vendor = format === "messages" ? "Anthropic" : "OpenAI";
  const streamed = JSON.parse(body).stream === true;
  return `from ${vendor.toLowerCase()} import ${vendor}

client = ${vendor}(base_url=${JSON.stringify(base)}, api_key=${JSON.stringify(key)})
${streamed ? "stream" : "answer"} = ${CALLS[format].python}(
${lines.join("")})
${streamed ? PRINTS[format].python : "print(answer.to_json())"}`;
};

export const javascript = ({ format, base, key, body }) => {
  const [name, from] = format === "messages" ? ["Anthropic", "@anthropic-ai/sdk"] : ["OpenAI", "openai"];
  const streamed = JSON.parse(body).stream === true;
  return `import ${name} from "${from}";

const client = new ${name}({ baseURL: ${JSON.stringify(base)}, apiKey: ${JSON.stringify(key)} });
const ${streamed ? "stream" : "answer"} = await ${CALLS[format].javascript}(${body.trimEnd()});
${streamed ? PRINTS[format].javascript : "console.log(JSON.stringify(answer, null, 2));"}`;
};
