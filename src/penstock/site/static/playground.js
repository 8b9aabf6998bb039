// The playground: a conversation with any model in any of the three formats, by way of the same API that everybody uses.
import { curl, javascript, python } from "./playground/code.js";
import { formats, wordsOf } from "./playground/formats.js";
import { forget, keep, recall } from "./playground/memory.js";

const form = document.getElementById("playground");
const field = form.elements;
const part = (name) => form.querySelector(`[data-${name}]`);
const [talk, facts, sendButton, stopButton, thumbs, pick] = ["talk", "facts", "send", "stop", "thumbs", "pick"].map(part);
const panel = document.querySelector("[data-exchange]");
const below = document.documentElement.dataset.base ?? "";
const account = form.dataset.account;
const KEPT = ["model", "dialect", "system", "temperature", "top", "max", "effort", "stop", "stream", "tools", "choice", "more", "say"];
const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const ORDINARY = new Set(["stop", "end_turn", "completed", "tool_calls", "tool_use"]);
const EXAMPLE = [{
  name: "weather", description: "The weather of a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
}];

let turns = [];
let images = [];
let results = {};
let exchange = null;
let running = null;
let key = "";

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const said = (text) => { facts.textContent = text; };

// ---- what is remembered

const bench = () => ({
  fields: Object.fromEntries(KEPT.map((name) => [name, field[name].type === "checkbox" ? field[name].checked : field[name].value])),
  turns, images, results, exchange,
});
let timer = 0;
const remember = () => {
  clearTimeout(timer);
  timer = setTimeout(save, 250);
};
const save = async () => {
  clearTimeout(timer);
  if (running) return; // until the answer has come, what is kept is the page as it was before
  try { await keep(account, bench()); } catch { part("kept").textContent = "This browser keeps nothing: what is here is gone when you leave the page."; }
};

// ---- what the form wishes for

class WrongField extends Error {
  constructor(name, text) {
    super(text);
    this.field = name;
  }
}
const number = (name, least, most, whole = false) => {
  const text = field[name].value.trim();
  if (!text) return undefined;
  const value = Number(text);
  if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    throw new WrongField(name, `A ${whole ? "whole number" : "number"} ${most === Infinity ? `from ${least} up` : `from ${least} to ${most}`}.`);
  }
  return value;
};
const json = (name, fits, form) => {
  const text = field[name].value.trim();
  if (!text) return undefined;
  let value;
  try { value = JSON.parse(text); } catch (error) { throw new WrongField(name, `This is no JSON: ${error.message}`); }
  if (!fits(value)) throw new WrongField(name, form);
  return value;
};
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const wishOf = () => {
  const format = formats[field.dialect.value];
  const stops = field.stop.value.split("\n").filter(Boolean);
  return {
    model: field.model.value, format: field.dialect.value, stream: field.stream.checked,
    thinks: field.model.selectedOptions[0]?.dataset.thinks ?? "none",
    system: field.system.value,
    temperature: number("temperature", 0, 2), top: number("top", 0, 1), max: number("max", 1, Infinity, true),
    effort: field.effort.value, choice: field.choice.value,
    stop: format.stops && stops.length ? stops : undefined,
    tools: json("tools", (value) => Array.isArray(value) && value.every((tool) => isObject(tool) && typeof tool.name === "string"),
      "A list of tools: each with a name, a description and the JSON schema of its parameters.") ?? [],
    more: json("more", isObject, "An object: the fields that are put into the request.") ?? {},
  };
};
const complain = (error) => {
  const place = field[error.field];
  place.setAttribute("aria-invalid", "true");
  part(`wrong-${error.field}`).textContent = error.message;
  const closed = place.closest("details:not([open])");
  if (closed) closed.open = true;
  place.focus();
};
const calm = (name) => {
  const told = part(`wrong-${name}`);
  if (told) {
    told.textContent = "";
    field[name].removeAttribute("aria-invalid");
  }
};

// ---- the conversation

const asked = () => turns.at(-1)?.calls ?? [];
const nextTurn = () => {
  const calls = asked();
  if (calls.length) return { role: "results", results: calls.map(({ id, name }) => ({ id, name, text: results[id] ?? "" })) };
  return { role: "user", text: field.say.value.trim(), images };
};
const article = (kind, ...children) => {
  const made = element("article", { className: kind }, ...children);
  talk.append(made);
  return made;
};
const drawAsked = (turn) => {
  if (turn.role === "user") {
    article("you",
      ...turn.images.map(({ type, data }, at) => element("img", { src: `data:${type};base64,${data}`, alt: `Image ${at + 1} that you sent` })),
      ...(turn.text ? [element("div", { textContent: turn.text })] : []));
  } else {
    for (const { name, text } of turn.results) article("you", element("p", { className: "small quiet", textContent: `Result of ${name}` }), element("div", { textContent: text }));
  }
};
const fillAnswer = (place, turn) => {
  const nodes = [];
  if (turn.thought) {
    const open = place.querySelector("details.thought")?.open ?? false;
    nodes.push(element("details", { className: "thought", open }, element("summary", { textContent: "Reasoning" }), element("div", { textContent: turn.thought })));
  }
  if (turn.text) nodes.push(element("div", { className: "text", textContent: turn.text }));
  for (const { name, arguments: text } of turn.calls) {
    nodes.push(element("div", { className: "call" }, element("span", { className: "small quiet", textContent: "asks for the tool " }), element("code", { textContent: name }), element("pre", { textContent: text, tabIndex: 0 })));
  }
  if (turn.facts) nodes.push(element("p", { className: "small quiet" }, turn.facts, ...(turn.id ? [" · ", receipt(turn.id)] : [])));
  place.replaceChildren(...nodes);
};
const receipt = (id) => element("a", { href: `${below}/requests/${encodeURIComponent(id)}`, textContent: "Its receipt", title: id });
const drawResults = () => {
  const calls = asked();
  part("results").replaceChildren(...calls.map(({ id, name }, at) => {
    const place = element("textarea", { id: `result-${at}`, value: results[id] ?? "", placeholder: "What the tool gives back" });
    place.addEventListener("input", () => { results[id] = place.value; remember(); });
    return element("div", { className: "field" }, element("label", { htmlFor: place.id, textContent: `Result of ${name}` }), place);
  }));
  part("compose").hidden = calls.length > 0;
  sendButton.textContent = calls.length > 1 ? "Send the results" : calls.length ? "Send the result" : "Send";
};
const draw = () => {
  talk.replaceChildren();
  for (const turn of turns) turn.role === "model" ? fillAnswer(article("model"), turn) : drawAsked(turn);
  part("back").hidden = !turns.length;
  part("empty").hidden = turns.length > 0;
  drawResults();
  drawImages();
};
const drawImages = () => {
  thumbs.replaceChildren(...images.map(({ type, data }, at) => {
    const button = element("button", { type: "button", className: "plain", textContent: "Remove" }, element("span", { className: "hidden-text", textContent: ` image ${at + 1}` }));
    button.addEventListener("click", () => { images = images.filter((_, other) => other !== at); drawImages(); pick.focus(); changed(); });
    return element("li", {}, element("img", { src: `data:${type};base64,${data}`, alt: `Image ${at + 1} to send` }), button);
  }));
  const sees = field.model.selectedOptions[0]?.dataset.sees === "yes";
  part("unseen").textContent = images.length && !sees ? `${field.model.value} is not listed as taking images: it may refuse them.` : "";
};
const addImages = async (files) => {
  for (const file of files) {
    if (!IMAGES.has(file.type)) {
      said(`${file.name || "This file"} is none of the images that models take: PNG, JPEG, GIF, WebP.`);
      continue;
    }
    const address = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(file);
    });
    images = [...images, { type: file.type, data: address.slice(address.indexOf(",") + 1) }];
  }
  drawImages();
  changed();
};

// ---- what was sent, and what came

const requestOf = (wish, turn) => {
  const format = formats[wish.format];
  const base = form.dataset.url;
  const shown = form.dataset.key;
  return {
    format: wish.format, base, url: base + format.path, key: shown,
    headers: [format.key(shown), ["Content-Type", "application/json"]],
    body: `${JSON.stringify(format.body([...turns, turn], wish), null, 2)}\n`,
  };
};
const LONGEST = 2000;
const put = (name, text) => {
  const place = panel.querySelector(`[data-shown=${name}]`);
  place.whole = text;
  place.firstElementChild.textContent = text.split("\n").map((line) =>
    line.length > LONGEST ? `${line.slice(0, 200)} [${(line.length - 200).toLocaleString()} more characters; copied in full]` : line).join("\n");
};
const show = () => {
  const next = field.which.value === "next" || !exchange;
  let shown = exchange;
  if (next) {
    try { shown = requestOf(wishOf(), nextTurn()); } catch (error) {
      if (error instanceof WrongField) return;
      throw error;
    }
  }
  put("request", `POST ${shown.url}\n${shown.headers.map(([name, value]) => `${name}: ${value}\n`).join("")}\n${shown.body}`);
  put("answer", next ? "Nothing was sent yet." : `${shown.status}\n${shown.came.map(([name, value]) => `${name}: ${value}\n`).join("")}\n${shown.answer}`);
  put("curl", curl(shown));
  put("python", python(shown));
  put("javascript", javascript(shown));
};
const changed = () => { remember(); if (field.which.value === "next" || !exchange) show(); };
let drawn = 0;
const showSoon = () => { drawn ||= requestAnimationFrame(() => { drawn = 0; show(); }); };

// ---- one request

const keyOf = async () => {
  if (key) return key;
  const answer = await fetch(`${below}/playground/key`, { method: "POST", headers: { "x-form-token": form.dataset.token } });
  if (!answer.ok) throw new Error("This page could not get its key. Load it again; you may have to sign in.");
  key = (await answer.text()).trim();
  setTimeout(() => { key = ""; }, 55 * 60 * 1000);
  return key;
};
const ask = async (request, signal) => {
  for (const last of [false, true]) {
    const [name, value] = formats[request.format].key(await keyOf());
    const answer = await fetch(`${location.origin}${below}/api/v1${formats[request.format].path}`, {
      method: "POST", signal, headers: { "content-type": "application/json", [name]: value }, body: request.body,
    });
    // Another window of this page has got a key since: this one's is over.
    if (answer.status !== 401 || last) return answer;
    key = "";
  }
};
class Refused extends Error {
  constructor({ text, code }, help = "") {
    super(text);
    this.code = code;
    this.help = help;
  }
}
async function* events(stream, shown) {
  let rest = "";
  for await (const piece of chunks(stream)) {
    shown.answer += piece;
    showSoon();
    rest += piece;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
async function* chunks(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}
const helpOf = (answer) => {
  const found = /<([^>]*)>;\s*rel="help"/.exec(answer.headers.get("link") ?? "");
  return found ? (found[1].startsWith("/") && !found[1].startsWith(`${below}/`) ? below + found[1] : found[1]) : "";
};
const second = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;

const send = async () => {
  if (running || !form.dataset.ready) return;
  let wish;
  try { wish = wishOf(); } catch (error) {
    if (error instanceof WrongField) return complain(error);
    throw error;
  }
  const turn = nextTurn();
  if (turn.role === "user" && !turn.text && !turn.images.length) {
    said("Say something, or add an image.");
    return field.say.focus();
  }
  const request = requestOf(wish, turn);
  save(); // as it is before it is sent: so it is found by who leaves meanwhile
  const mine = new AbortController();
  running = mine;
  said("Sent; waiting for the answer.");
  draw();
  drawAsked(turn);
  part("empty").hidden = true;
  const place = article("model");
  place.scrollIntoView({ block: "nearest" });
  const typed = field.say.value;
  field.say.value = "";
  images = turn.role === "user" ? [] : images;
  drawImages();
  part("results").replaceChildren();
  stopButton.hidden = false;
  if (document.activeElement === sendButton || document.activeElement === document.body) stopButton.focus();
  sendButton.hidden = true;
  part("back").hidden = true;
  const began = performance.now();
  const reader = formats[wish.format].reader();
  const shown = { ...request, status: "No answer yet.", came: [], answer: "" };
  exchange = shown;
  field.which.value = "last";
  show();
  let first = 0, id = "", told = "", failed = null;
  try {
    const answer = await ask(request, mine.signal);
    shown.status = `${answer.status} ${answer.statusText}`.trim();
    shown.came = [...answer.headers];
    id = answer.headers.get("x-request-id") ?? "";
    const carried = answer.headers.get("x-penstock-translation");
    told = [answer.headers.get("x-penstock-model") ? `answered by ${answer.headers.get("x-penstock-model")}` : "", carried ? `carried otherwise: ${carried}` : ""].filter(Boolean).join(" · ");
    if (!answer.ok) {
      shown.answer = await answer.text();
      let words = { text: `The answer was ${shown.status}.`, code: "" };
      try { words = wordsOf(JSON.parse(shown.answer)); } catch { /* not from the API: a proxy's page */ }
      throw new Refused(words, helpOf(answer));
    }
    if (answer.headers.get("content-type")?.startsWith("text/event-stream")) {
      said("The answer is coming.");
      for await (const event of events(answer.body, shown)) {
        if (event.error || event.type === "error") throw new Refused(wordsOf(event.error ? event : { error: event }));
        reader.feed(event);
        const soFar = reader.turn();
        if (!first && (soFar.text || soFar.thought || soFar.calls.length)) first = performance.now() - began;
        fillAnswer(place, soFar);
      }
    } else {
      shown.answer = await answer.text();
      reader.whole(JSON.parse(shown.answer));
    }
  } catch (error) {
    failed = error;
    mine.abort(); // whatever is still on its way is of no use
  }
  if (running !== mine) return; // the conversation that it belonged to is gone
  const stopped = failed?.name === "AbortError";
  const took = performance.now() - began;
  const { end, read, written, ...came } = reader.turn();
  running = null;
  if (!failed || (stopped && came.text)) {
    if (stopped) Object.assign(came, { calls: [], native: null });
    const figures = [first ? `first token after ${second(first)}` : "", `whole after ${second(took)}`,
      read === undefined && written === undefined ? "" : `${read ?? 0} tokens read, ${written ?? 0} written`, end && !ORDINARY.has(end) ? `ended: ${end}` : "", stopped ? "stopped by you" : "", told];
    turns = [...turns, turn, { role: "model", ...came, id, facts: [wish.model, ...figures].filter(Boolean).join(" · ") }];
    results = {};
    draw();
    said(stopped ? "Stopped. What had come is kept." : came.calls.length ? "The model asks for a tool: give it a result." : "The answer is complete.");
    talk.lastElementChild.scrollIntoView({ block: "nearest" });
  } else {
    place.classList.add("failed");
    if (!place.childElementCount) place.remove();
    if (turn.role === "user") {
      field.say.value = field.say.value ? `${typed}\n${field.say.value}` : typed;
      images = [...turn.images, ...images];
    }
    if (stopped) draw();
    else article("bad", ...trouble(failed, id)).setAttribute("role", "alert");
    said(stopped ? "Stopped before anything came." : turn.role === "user" ? "It failed. Your message is back in its field." : "It failed. The results are back in their fields.");
    drawResults();
    drawImages();
    part("back").hidden = !turns.length;
    talk.lastElementChild?.scrollIntoView({ block: "nearest" });
  }
  sendButton.hidden = false;
  if (document.activeElement === stopButton || document.activeElement === document.body) (form.querySelector("[data-results] textarea") ?? field.say).focus({ preventScroll: true });
  stopButton.hidden = true;
  show();
  save();
};
const trouble = (error, id) => {
  const text = error instanceof Refused ? error.message : error instanceof TypeError ? "The connection was lost before the answer had come whole." : error.message;
  const links = [
    ...(error.help && !error.help.startsWith(`${below}/requests/`) ? [element("a", { href: error.help, textContent: "What it means" }), " · "] : []),
    ...(id ? [element("a", { href: `${below}/requests/${encodeURIComponent(id)}`, textContent: "What to do, and its receipt" }), " · ", element("code", { textContent: id })] : []),
  ];
  return [
    element("p", {}, ...(error.code ? [element("span", { className: "badge bad", textContent: error.code }), " "] : []), text),
    ...(links.length ? [element("p", { className: "small" }, ...links)] : []),
  ];
};

// ---- what the reader does

form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
stopButton.addEventListener("click", () => running?.abort());
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) send();
  if (event.key === "Escape" && running) running.abort();
});
form.addEventListener("input", (event) => { calm(event.target.name); changed(); });
field.which.addEventListener("change", show);
field.model.addEventListener("change", drawImages);
const fitFormat = () => { field.stop.disabled = !formats[field.dialect.value].stops; };
field.dialect.addEventListener("change", fitFormat);
pick.addEventListener("change", async () => { await addImages(pick.files); pick.value = ""; });
field.say.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files].filter((file) => IMAGES.has(file.type));
  if (files.length) { event.preventDefault(); addImages(files); }
});
form.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
form.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  addImages(event.dataTransfer.files);
});
part("example").addEventListener("click", () => {
  let known = [];
  try { known = wishOf().tools; } catch { /* replaced */ }
  if (!known.some(({ name }) => name === EXAMPLE[0].name)) field.tools.value = JSON.stringify([...known, ...EXAMPLE], null, 2);
  calm("tools");
  changed();
});
part("back").addEventListener("click", () => {
  const [turn] = turns.slice(-2);
  turns = turns.slice(0, -2);
  if (turn.role === "user") {
    field.say.value = turn.text;
    images = turn.images;
  } else results = Object.fromEntries(turn.results.map(({ id, text }) => [id, text]));
  draw();
  said("Taken back: it is in its field again.");
  (form.querySelector("[data-results] textarea") ?? field.say).focus();
  changed();
});
const begin = () => {
  running?.abort();
  running = null;
  sendButton.hidden = false;
  stopButton.hidden = true;
  turns = [];
  images = [];
  results = {};
  exchange = null;
  draw();
  said("");
};
part("begin").addEventListener("click", () => { begin(); show(); save(); field.say.focus(); });
part("clear").addEventListener("click", async () => {
  begin();
  form.reset();
  for (const name of KEPT) calm(name);
  fitFormat();
  show();
  clearTimeout(timer);
  try { await forget(account); } catch { /* nothing was kept */ }
  said("Cleared: this browser keeps nothing of it.");
  field.say.focus();
});
addEventListener("pagehide", save);

// ---- coming back

try {
  const before = await recall(account);
  if (before) {
    for (const name of KEPT) {
      const value = before.fields[name];
      if (value === undefined || (name === "say" && field.say.value)) continue; // who was quicker than we has the last word
      if (field[name].type === "checkbox") field[name].checked = value;
      else if (field[name].tagName !== "SELECT" || [...field[name].options].some((option) => option.value === value)) field[name].value = value;
    }
    ({ turns, images, results, exchange } = before);
    if (before.fields.model && field.model.value !== before.fields.model) said(`${before.fields.model} is not on your plan now: choose a model.`);
    if (exchange) field.which.value = "last";
  }
} catch {
  part("kept").textContent = "This browser keeps nothing: what is here is gone when you leave the page.";
}
if (matchMedia("(max-width: 75rem)").matches) part("wishes").open = false;
fitFormat();
draw();
show();
sendButton.disabled = false;
form.dataset.ready = "yes";
