// What pages do beyond plain HTML. Everything here is an addition: without it the pages work as well.
const all = (selector, root = document) => root.querySelectorAll(selector);

// ---- light or dark
for (const button of all("[data-theme-switch]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
      (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    const chosen = dark ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("theme", chosen); } catch { /* it holds for this page */ }
  });
}

// ---- copy
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const shown = button.closest(".snippet").querySelector("pre");
  const text = (shown.whole ?? shown.textContent).trimEnd();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const said = button.querySelector("[data-said]");
  button.classList.add("done");
  said.textContent = "Copied";
  setTimeout(() => { button.classList.remove("done"); said.textContent = "Copy"; }, 1600);
});
const showCopy = (root) => { for (const button of all("[data-copy]", root)) button.hidden = false; };

// ---- times in the reader's own zone, which is named: after each of them, or once above a table of many
const shortly = (at) => ({
  ...(at.getFullYear() === new Date().getFullYear() ? {} : { year: "2-digit" }),
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  ...(document.querySelector("[data-zone]") ? {} : { timeZoneName: "short" }),
});
for (const zone of all("[data-zone]")) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
const showTimes = (root) => {
  for (const time of all("time[datetime]", root)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    time.title = time.dateTime;
    time.textContent = at.toLocaleString(undefined, time.closest(".log") ? shortly(at) : { dateStyle: "medium", timeStyle: "long" });
  }
  for (const left of all("[data-until]", root)) count(left);
};
const count = (element) => {
  const seconds = Math.max(0, Math.round(Number(element.dataset.until) - Date.now() / 1000));
  const pad = (number) => String(number).padStart(2, "0");
  element.textContent = `${pad(Math.floor(seconds / 3600))}:${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`;
};
setInterval(() => { for (const left of all("[data-until]")) count(left); }, 1000);

// ---- tabs: the language that was chosen last, on every page
for (const input of all(".tabs input[type=radio]")) {
  try { if (localStorage.getItem("tab") === input.value) input.checked = true; } catch { /* the first stays */ }
  input.addEventListener("change", () => { try { localStorage.setItem("tab", input.value); } catch { /* not kept */ } });
}

// ---- what is fetched again is changed in place, so that focus, an open part and a chosen text stay where they are
const patch = (old, fresh) => {
  const theirs = [...fresh.childNodes];
  for (const [at, next] of theirs.entries()) {
    const mine = old.childNodes[at];
    if (!mine) old.append(next);
    else if (mine.nodeName !== next.nodeName || key(mine) !== key(next)) {
      // One that is gone from before others is taken out, so that those stay themselves.
      const later = [...old.childNodes].slice(at + 1).find((node) => key(node) && key(node) === key(next));
      if (later) while (old.childNodes[at] !== later) old.childNodes[at].remove();
      else { mine.replaceWith(next); continue; }
      adopt(later, next);
    } else adopt(mine, next);
  }
  while (old.childNodes.length > theirs.length) old.lastChild.remove();
};
const key = (node) => node.dataset?.key ?? "";
const adopt = (mine, next) => {
  if (mine.nodeType !== Node.ELEMENT_NODE) {
    if (mine.nodeValue !== next.nodeValue) mine.nodeValue = next.nodeValue;
    return;
  }
  if (mine.isEqualNode(next)) return;
  for (const { name, value } of next.attributes) if (mine.getAttribute(name) !== value) mine.setAttribute(name, value);
  for (const { name } of [...mine.attributes]) {
    if (!next.hasAttribute(name) && !(name === "open" && mine.nodeName === "DETAILS")) mine.removeAttribute(name);
  }
  patch(mine, next);
};

// ---- parts that are fetched again every few seconds, while they are looked at
for (const part of all("[data-poll]")) {
  const again = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(part.dataset.poll, { headers: { accept: "text/html" } });
        if (answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById(part.id);
          if (fresh && fresh.innerHTML !== part.dataset.last) {
            part.dataset.last = fresh.innerHTML;
            patch(part, fresh);
            showTimes(part);
            showCopy(part);
          }
          if (fresh?.dataset.done !== undefined) return;
        }
      } catch { /* the next time will tell */ }
    }
    setTimeout(again, Number(part.dataset.every) * 1000);
  };
  setTimeout(again, Number(part.dataset.every) * 1000);
}

// ---- a secret behind the # of an address goes into its field, and out of the address
for (const field of all("[data-from-fragment]")) {
  if (location.hash.length < 2) continue;
  field.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
}

// ---- what must be meant
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});

// ---- a form that is pressed twice is sent once: the second answer would be shown, and what the first one says but once be lost
const sent = new WeakMap();
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (Date.now() - (sent.get(form) ?? 0) < 3000) event.preventDefault();
  else sent.set(form, Date.now());
});

// ---- a document of long tables: only the rows that have all of some words, under their headings
const long = document.querySelector(".docs .prose");
const rows = long ? [...all("tbody tr", long)] : [];
if (rows.length >= 40) {
  const field = Object.assign(document.createElement("input"), { type: "search", id: "rows-q", placeholder: "Only rows with these words", maxLength: 200 });
  const label = Object.assign(document.createElement("label"), { className: "hidden-text", htmlFor: field.id, textContent: field.placeholder });
  const told = Object.assign(document.createElement("span"), { className: "small quiet" });
  told.setAttribute("role", "status");
  const place = Object.assign(document.createElement("p"), { className: "finder rows" });
  place.append(label, field, told);
  const parts = [...long.children].filter((part) => part.tagName !== "H1");
  long.querySelector("h1").after(place);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      found += !row.hidden;
    }
    for (const part of parts) part.hidden = words.length > 0 && !part.querySelector("tbody tr:not([hidden])");
    // from the last one up: a heading stays where something below it does
    let below = 0;
    for (const part of [...parts].reverse()) {
      const level = Number(/^H([2-6])$/.exec(part.tagName)?.[1] ?? 0);
      if (!level) below = part.hidden ? below : 7;
      else if (words.length) { part.hidden = below <= level; if (!part.hidden) below = level; }
    }
    told.textContent = words.length ? `${found} of ${rows.length} rows` : "";
  });
}

// ---- a filter that is not set has no place in the address
for (const form of all("form.filters")) {
  form.addEventListener("submit", () => { for (const field of form.elements) field.disabled ||= field.name !== "" && field.value === ""; });
  addEventListener("pageshow", () => { for (const field of form.elements) field.disabled = false; });
}

// ---- what the playground keeps in this browser goes with its owner
document.addEventListener("submit", (event) => {
  if (event.target.getAttribute("action")?.endsWith("/signout")) indexedDB.deleteDatabase("playground");
});

// ---- on a phone the account's places are in a line that is longer than the window, and the docs' in a box that is lower than they are
document.querySelector(".side [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
// what is wider than its box shows the whole of what has the focus in it; a browser is content with a part
for (const box of all(".side, .bar nav, .tabs > .names, .scroll")) box.addEventListener("focusin", ({ target }) => {
  if (target !== box) (target.closest(".names label") ?? target).scrollIntoView({ inline: "nearest", block: "nearest" });
});
const here = document.querySelector(".docs-menu [aria-current]");
if (here) here.parentElement.scrollTop = here.offsetTop - here.parentElement.offsetTop - here.parentElement.clientHeight / 2;

showCopy(document);
showTimes(document);
