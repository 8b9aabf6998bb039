// A conversation with a model, streamed, by way of the same API that everybody uses.
const form = document.getElementById("playground");
const talk = form.querySelector("[data-talk]");
const facts = form.querySelector("[data-facts]");
const [send, stop, clear] = ["[data-send]", "[data-stop]", "[data-clear]"].map((part) => form.querySelector(part));
const below = document.documentElement.dataset.base ?? "";
const base = `${location.origin}${below}/api/v1`;
let said = [];
let key = "";
let running = null;

const keyOf = async () => {
  if (key) return key;
  const answer = await fetch(`${below}/playground/key`, { method: "POST", headers: { "x-form-token": form.dataset.token } });
  if (!answer.ok) throw new Error("No key could be made for this page. Load it again.");
  key = (await answer.text()).trim();
  setTimeout(() => { key = ""; }, 55 * 60 * 1000);
  return key;
};

const say = (who, text) => {
  const article = document.createElement("article");
  article.className = who;
  article.textContent = text;
  talk.append(article);
  article.scrollIntoView({ block: "nearest" });
  return article;
};

const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const about = { name: "weather", description: "The weather of a city." };
const formats = {
  chat: {
    path: "/chat/completions",
    body: (model, tools) => ({
      model, messages: said, stream: true, stream_options: { include_usage: true },
      ...(tools ? { tools: [{ type: "function", function: { ...about, parameters: schema } }] } : {}),
    }),
    read: (event) => {
      const delta = event.choices?.[0]?.delta ?? {};
      const call = delta.tool_calls?.[0]?.function;
      return { text: delta.content ?? "", call: call ? (call.name ? `${call.name} ` : "") + (call.arguments ?? "") : "", usage: event.usage };
    },
  },
  messages: {
    path: "/messages",
    body: (model, tools) => ({
      model, max_tokens: 2000, messages: said, stream: true,
      ...(tools ? { tools: [{ ...about, input_schema: schema }] } : {}),
    }),
    read: (event) => ({
      text: event.delta?.text ?? "",
      call: event.content_block?.type === "tool_use" ? `${event.content_block.name} ` : event.delta?.partial_json ?? "",
      usage: event.usage,
    }),
  },
};

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const frames = rest.split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n").trim();
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  const text = form.elements.say.value.trim();
  if (!text) return;
  const format = formats[form.elements.dialect.value];
  said.push({ role: "user", content: text });
  say("you", text);
  form.elements.say.value = "";
  const article = say("model", "");
  running = new AbortController();
  send.disabled = true;
  stop.hidden = false;
  const began = performance.now();
  let first = 0, answer = "", calls = "", usage = null;
  try {
    const response = await fetch(base + format.path, {
      method: "POST",
      signal: running.signal,
      headers: { "content-type": "application/json", "x-api-key": await keyOf() },
      body: JSON.stringify(format.body(form.elements.model.value, form.elements.tools.checked)),
    });
    if (!response.ok) {
      const told = await response.json();
      throw new Error(typeof told.error === "string" ? told.error : told.error.message);
    }
    for await (const piece of events(response)) {
      if (piece.error) throw new Error(piece.error.message ?? piece.error);
      const part = format.read(piece);
      if (part.usage) usage = { ...usage, ...part.usage };
      answer += part.text;
      calls += part.call;
      if (!first && (answer || calls)) first = performance.now() - began;
      article.textContent = answer + (calls ? `\n\nasks for the tool ${calls}` : "");
    }
    said.push({ role: "assistant", content: answer || "(a tool was asked for)" });
  } catch (error) {
    if (error.name === "AbortError") {
      said.push({ role: "assistant", content: answer || "(stopped)" });
    } else {
      said.pop();
      article.classList.add("bad");
      article.textContent = error.message;
    }
  } finally {
    running = null;
    send.disabled = false;
    stop.hidden = true;
    const tokens = usage ? `, ${usage.completion_tokens ?? usage.output_tokens ?? 0} tokens written` : "";
    facts.textContent = first ? `First token after ${(first / 1000).toFixed(2)} s, whole after ${((performance.now() - began) / 1000).toFixed(2)} s${tokens}` : "";
    form.elements.say.focus();
  }
});
stop.addEventListener("click", () => running?.abort());
clear.addEventListener("click", () => { said = []; talk.replaceChildren(); facts.textContent = ""; });
form.elements.say.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) form.requestSubmit();
});
const shown = document.querySelector("[data-code]");
let model = form.elements.model.value;
form.elements.model.addEventListener("change", () => {
  for (const code of shown.querySelectorAll("code")) code.textContent = code.textContent.replaceAll(`"${model}"`, `"${form.elements.model.value}"`);
  model = form.elements.model.value;
});
