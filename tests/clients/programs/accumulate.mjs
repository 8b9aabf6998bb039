// What the official SDKs make of streams: a JSON list of {dialect, body} on stdin, of {text, thoughts, calls} or {error} on stdout.
import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'

const given = []
for await (const piece of process.stdin) given.push(piece)

const request = { model: 'm', messages: [{ role: 'user', content: 'hi' }] }

function options(body) {
  const headers = { 'content-type': 'text/event-stream' }
  return { apiKey: 'none', baseURL: 'http://127.0.0.1:9', maxRetries: 0, fetch: async () => new Response(body, { headers }) }
}

const accumulate = {
  async chat(body) {
    const stream = new OpenAI(options(body)).chat.completions.stream({ ...request, stream_options: { include_usage: true } })
    for await (const _ of stream);
    const { message } = stream.currentChatCompletionSnapshot?.choices[0] ?? (await stream.finalChatCompletion()).choices[0]
    return {
      text: message.content ?? '',
      calls: (message.tool_calls ?? []).map((call) => [(call.function ?? call.custom).name, call.function?.arguments ?? '{}']),
    }
  },
  async messages(body) {
    const message = await new Anthropic(options(body)).messages.stream({ ...request, max_tokens: 9 }).finalMessage()
    return {
      text: message.content.map((block) => block.text ?? '').join(''),
      calls: message.content.filter((block) => block.type === 'tool_use').map((block) => [block.name, JSON.stringify(block.input)]),
    }
  },
  async responses(body) {
    const response = await new OpenAI(options(body)).responses.stream({ model: 'm', input: 'hi' }).finalResponse()
    if (response.status === 'failed') throw new Error(response.error.message)
    const parts = response.output.filter((item) => item.type === 'message').flatMap((item) => item.content)
    return {
      text: parts.map((part) => part.text ?? part.refusal ?? '').join(''),
      calls: response.output.filter((item) => ['function_call', 'custom_tool_call'].includes(item.type)).map((item) => [item.name, item.arguments ?? '{}']),
    }
  },
}

const found = []
for (const { dialect, body } of JSON.parse(Buffer.concat(given).toString())) {
  try {
    found.push(await accumulate[dialect](body))
  } catch (error) {
    found.push({ error: String(error.stack) })
  }
}
process.stdout.write(JSON.stringify(found))
