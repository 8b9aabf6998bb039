// The three formats: how a conversation becomes a request in each, and how its answer is read, streamed or whole.
//
// A conversation is a list of turns, in no format: {role: "user", text, images: [{type, data}]}, {role: "results", results:
// [{id, name, text}]}, and {role: "model", text, thought, calls: [{id, name, arguments}], native}. `native` is {format, value}: what the
// model sent in its own form, which goes back unchanged as long as the format stays the same, since signatures are only good there.

const given = (value) => value !== undefined && value !== "" && value !== null;
const only = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => given(value)));
const own = (turn, format) => (turn.native?.format === format ? turn.native.value : null);
const objectOf = (text) => {
  try { return JSON.parse(text || "{}"); } catch { return {}; }
};

const BUDGETS = { minimal: 1024, low: 2048, medium: 8192, high: 16384, xhigh: 32000, max: 32000 };

const chat = {
  name: "Chat Completions",
  path: "/chat/completions",
  key: (key) => ["Authorization", `Bearer ${key}`],
  stops: true,

  body(turns, wish) {
    const messages = wish.system ? [{ role: "system", content: wish.system }] : [];
    for (const turn of turns) {
      if (turn.role === "user") {
        const images = turn.images.map(({ type, data }) => ({ type: "image_url", image_url: { url: `data:${type};base64,${data}` } }));
        messages.push({ role: "user", content: images.length ? [...(turn.text ? [{ type: "text", text: turn.text }] : []), ...images] : turn.text });
      } else if (turn.role === "results") {
        for (const { id, text } of turn.results) messages.push({ role: "tool", tool_call_id: id, content: text });
      } else {
        messages.push(own(turn, "chat") ?? {
          role: "assistant", content: turn.text || null,
          ...(turn.calls.length ? { tool_calls: turn.calls.map(({ id, name, arguments: text }) => ({ id, type: "function", function: { name, arguments: text } })) } : {}),
        });
      }
    }
    return {
      model: wish.model, messages,
      ...(wish.stream ? { stream: true, stream_options: { include_usage: true } } : {}),
      ...only({ max_tokens: wish.max, temperature: wish.temperature, top_p: wish.top, stop: wish.stop, reasoning_effort: wish.effort }),
      ...(wish.tools.length ? { tools: wish.tools.map((tool) => ({ type: "function", function: tool })) } : {}),
      ...(given(wish.choice) && wish.tools.length ? { tool_choice: wish.choice } : {}),
      ...wish.more,
    };
  },

  reader() {
    const said = { content: "", calls: [], details: [], thought: "", usage: null, end: "" };
    const add = (delta) => {
      said.content += delta.content ?? "";
      said.thought += delta.reasoning_content ?? delta.reasoning ?? "";
      said.details.push(...(delta.reasoning_details ?? []));
      for (const [at, call] of (delta.tool_calls ?? []).entries()) {
        const place = call.index ?? at;
        const known = (said.calls[place] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
        known.id ||= call.id ?? "";
        known.function.name += call.function?.name ?? "";
        known.function.arguments += call.function?.arguments ?? "";
        if (call.extra_content) known.extra_content = call.extra_content;
      }
    };
    return {
      feed(event) {
        if (event.usage) said.usage = event.usage;
        const choice = event.choices?.[0];
        if (choice) add(choice.delta ?? {});
        said.end = choice?.finish_reason ?? said.end;
      },
      whole(answer) {
        said.usage = answer.usage;
        const choice = answer.choices?.[0];
        if (choice) add(choice.message ?? {});
        said.end = choice?.finish_reason ?? "";
      },
      turn() {
        const calls = said.calls.filter(Boolean);
        const value = {
          role: "assistant", content: said.content || null,
          ...(calls.length ? { tool_calls: calls } : {}),
          ...(said.details.length ? { reasoning_details: said.details } : {}),
        };
        return {
          text: said.content, thought: said.thought, end: said.end,
          calls: calls.map(({ id, function: { name, arguments: text } }) => ({ id, name, arguments: text })),
          read: said.usage?.prompt_tokens, written: said.usage?.completion_tokens,
          native: { format: "chat", value },
        };
      },
    };
  },
};

const responses = {
  name: "Responses",
  path: "/responses",
  key: chat.key,
  stops: false,

  body(turns, wish) {
    const input = [];
    for (const turn of turns) {
      if (turn.role === "user") {
        const images = turn.images.map(({ type, data }) => ({ type: "input_image", image_url: `data:${type};base64,${data}` }));
        input.push({ role: "user", content: images.length ? [...(turn.text ? [{ type: "input_text", text: turn.text }] : []), ...images] : turn.text });
      } else if (turn.role === "results") {
        for (const { id, text } of turn.results) input.push({ type: "function_call_output", call_id: id, output: text });
      } else {
        const items = own(turn, "responses");
        if (items) input.push(...items);
        else {
          if (turn.text) input.push({ role: "assistant", content: turn.text });
          for (const { id, name, arguments: text } of turn.calls) input.push({ type: "function_call", call_id: id, name, arguments: text });
        }
      }
    }
    return {
      model: wish.model, input,
      ...only({ instructions: wish.system }),
      ...(wish.stream ? { stream: true } : {}),
      store: false,
      ...only({ max_output_tokens: wish.max, temperature: wish.temperature, top_p: wish.top }),
      ...(given(wish.effort) ? { reasoning: { effort: wish.effort, summary: "auto" }, include: ["reasoning.encrypted_content"] } : {}),
      ...(wish.tools.length ? { tools: wish.tools.map((tool) => ({ type: "function", ...tool })) } : {}),
      ...(given(wish.choice) && wish.tools.length ? { tool_choice: wish.choice } : {}),
      ...wish.more,
    };
  },

  reader() {
    let text = "", thought = "", usage = null, end = "", items = [];
    const started = new Map();
    const take = (response) => {
      if (response?.usage) usage = response.usage;
      if (response?.status) end = response.incomplete_details?.reason ?? response.status;
      if (response?.output?.length) items = response.output;
    };
    const textOf = (item, kind) => (item[kind] ?? []).map((part) => part.text ?? part.refusal ?? "").join("");
    return {
      feed(event) {
        switch (event.type) {
          case "response.output_text.delta": case "response.refusal.delta": text += event.delta; break;
          case "response.reasoning_summary_text.delta": case "response.reasoning_text.delta": thought += event.delta; break;
          case "response.output_item.added": if (event.item.type === "function_call") started.set(event.output_index, { ...event.item, arguments: "" }); break;
          case "response.function_call_arguments.delta": if (started.has(event.output_index)) started.get(event.output_index).arguments += event.delta; break;
          case "response.output_item.done": items.push(event.item); break;
          case "response.completed": case "response.incomplete": take(event.response); break;
          case "response.failed": throw new Error(event.response?.error?.message ?? "The answer failed.");
        }
      },
      whole(answer) {
        take(answer);
        text = items.filter((item) => item.type === "message").map((item) => textOf(item, "content")).join("");
        thought = items.filter((item) => item.type === "reasoning").map((item) => textOf(item, "summary")).join("");
      },
      turn() {
        const called = items.filter((item) => item.type === "function_call");
        const calls = (called.length ? called : [...started.values()]).map(({ call_id: id, name, arguments: made }) => ({ id, name, arguments: made }));
        // Nothing is stored, so that reasoning can go back in its encrypted form alone.
        const value = items.filter((item) => item.type !== "reasoning" || item.encrypted_content);
        return { text, thought, end, calls, read: usage?.input_tokens, written: usage?.output_tokens, native: { format: "responses", value } };
      },
    };
  },
};

const messages = {
  name: "Messages",
  path: "/messages",
  key: (key) => ["x-api-key", key],
  stops: true,

  body(turns, wish) {
    const rows = turns.map((turn) => {
      if (turn.role === "user") {
        const images = turn.images.map(({ type, data }) => ({ type: "image", source: { type: "base64", media_type: type, data } }));
        return { role: "user", content: images.length ? [...images, ...(turn.text ? [{ type: "text", text: turn.text }] : [])] : turn.text };
      }
      if (turn.role === "results") {
        return { role: "user", content: turn.results.map(({ id, text }) => ({ type: "tool_result", tool_use_id: id, content: text })) };
      }
      return {
        role: "assistant",
        content: own(turn, "messages") ?? [
          ...(turn.text ? [{ type: "text", text: turn.text }] : []),
          ...turn.calls.map(({ id, name, arguments: text }) => ({ type: "tool_use", id, name, input: objectOf(text) })),
        ],
      };
    });
    const effort = given(wish.effort) && wish.effort !== "none" ? wish.effort : "";
    const budget = effort && wish.thinks === "budget" ? BUDGETS[effort] : 0;
    const thinking = !given(wish.effort) ? {} : !effort ? { thinking: { type: "disabled" } }
      : budget ? { thinking: { type: "enabled", budget_tokens: budget } }
      : { thinking: { type: "adaptive" }, output_config: { effort: effort === "minimal" ? "low" : effort } };
    const choice = { auto: { type: "auto" }, none: { type: "none" }, required: { type: "any" } }[wish.choice];
    return {
      model: wish.model, max_tokens: wish.max ?? 4096 + budget, messages: rows,
      ...only({ system: wish.system }),
      ...(wish.stream ? { stream: true } : {}),
      ...only({ temperature: wish.temperature, top_p: wish.top, stop_sequences: wish.stop }),
      ...thinking,
      ...(wish.tools.length ? { tools: wish.tools.map(({ name, description, parameters, ...rest }) => ({ name, ...only({ description }), input_schema: parameters ?? { type: "object" }, ...rest })) } : {}),
      ...(choice && wish.tools.length ? { tool_choice: choice } : {}),
      ...wish.more,
    };
  },

  reader() {
    const blocks = [], made = [];
    let usage = {}, end = "";
    return {
      feed(event) {
        const block = blocks[event.index];
        switch (event.type) {
          case "message_start": usage = { ...event.message.usage }; break;
          case "content_block_start": blocks[event.index] = { ...event.content_block }; made[event.index] = ""; break;
          case "content_block_delta":
            if (event.delta.type === "text_delta") block.text += event.delta.text;
            else if (event.delta.type === "thinking_delta") block.thinking += event.delta.thinking;
            else if (event.delta.type === "signature_delta") block.signature = (block.signature ?? "") + event.delta.signature;
            else if (event.delta.type === "input_json_delta") made[event.index] += event.delta.partial_json;
            break;
          case "content_block_stop": if (made[event.index]) block.input = objectOf(made[event.index]); break;
          case "message_delta": usage = { ...usage, ...event.usage }; end = event.delta.stop_reason ?? end; break;
        }
      },
      whole(answer) {
        blocks.push(...answer.content);
        usage = answer.usage;
        end = answer.stop_reason;
      },
      turn() {
        const found = blocks.filter((block) => block && (block.type !== "text" || block.text));
        const joined = (type, field) => found.filter((block) => block.type === type).map((block) => block[field]).join("");
        return {
          text: joined("text", "text"), thought: joined("thinking", "thinking"), end,
          calls: blocks.flatMap((block, at) => (block?.type === "tool_use" ? [{ id: block.id, name: block.name, arguments: made[at] || JSON.stringify(block.input) }] : [])),
          read: usage.input_tokens, written: usage.output_tokens,
          native: { format: "messages", value: found },
        };
      },
    };
  },
};

export const formats = { chat, responses, messages };

// What an error says, in whichever form it came.
export const wordsOf = (told) => {
  const error = told?.error;
  if (typeof error === "string") return { text: error, code: told.code ?? "", id: told.request_id ?? "" };
  return {
    text: error?.message ?? told?.message ?? "The answer was an error that says nothing.",
    code: error?.code ?? error?.type ?? "", id: told?.request_id ?? "",
  };
};
