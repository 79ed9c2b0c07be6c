// What apar-client does on a runtime, as one line of JSON: Node, Deno or Bun, beside whose node_modules/apar-client it lies.
// APAR_URL=http://127.0.0.1:8787 APAR_API_KEY=apar_… deno run -A runtime.mjs
import { AparError, listModels, openConnection, openStream, resumeStream } from 'apar-client'

const { APAR_URL: baseUrl, APAR_API_KEY: apiKey } = process.env
const messages = [{ role: 'user', content: 'How do I use tar?' }]
const request = { model: 'demo', messages, temperature: 0, max_tokens: 120 }
// Node 20 has none.
const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket
const access = { baseUrl, apiKey, WebSocket }

const stream = openStream({ ...access, request })
const branches = []
let text = ''
const reading = (async () => {
  for await (const piece of stream.texts()) text += piece
})()
for await (const event of stream) if (event.type === 'fork') branches.push(event.branch)
await reading

const connection = openConnection(access)
const texts = await Promise.all([1, 2].map(() => connection.stream(request).text()))
connection.close()

console.log(
  JSON.stringify({
    models: await listModels(baseUrl, apiKey),
    branches: branches.length,
    same: [await stream.text(), ...texts, await resumed()].every((each) => each === text),
    text,
    aborted: await aborted(),
    refused: await refused(),
  }),
)

/** Another one goes on with a stream that was left. */
async function resumed() {
  const first = openStream({ ...access, request })
  const events = []
  for await (const event of first) {
    events.push(event)
    if (first.caughtUp) first.detach()
  }
  const position = { stream: first.id, after: first.lastSeq, events }
  return resumeStream({ ...access, position }).text()
}

async function aborted() {
  const abort = new AbortController()
  const events = openStream({ ...access, request, signal: abort.signal })
  abort.abort()
  let last
  for await (const event of events) last = event
  return last.reason
}

async function refused() {
  const error = await openStream({ ...access, apiKey: 'apar_no_key', request })
    .text()
    .catch((thrown) => thrown)
  return error instanceof AparError && error.code
}
