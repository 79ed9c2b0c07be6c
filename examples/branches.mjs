// Prints an answer in reading order, and which branches wrote it. APAR_API_KEY=apar_… node branches.mjs "How do I use tar?"
import { listModels, openStream } from 'apar-client'

const baseUrl = process.env.APAR_URL ?? 'http://127.0.0.1:8787'
const apiKey = process.env.APAR_API_KEY ?? ''
// Node 22 and newer have a WebSocket.
const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket

const [model] = await listModels(baseUrl, apiKey)
const content = process.argv[2] ?? 'How do I use tar?'
const stream = openStream({
  ...{ baseUrl, apiKey, WebSocket },
  request: { model, messages: [{ role: 'user', content }] },
})
for await (const text of stream.texts()) process.stdout.write(text)
console.log()
for (const { id, parent, text } of stream.tree.branches())
  console.log(`branch ${id}${parent === null ? '' : ` of ${parent}`}: ${text.length} characters`)
