// The server of the page: it holds the key, and gives each message its text in reading order and its branches.
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { convertToModelMessages, createUIMessageStream, pipeUIMessageStreamToResponse, streamText } from 'ai'
import { aparErrorOf, branchParts, createApar } from 'apar-ai-sdk'
import { build } from 'esbuild'

const { APAR_URL = 'http://127.0.0.1:8787', APAR_MODEL = 'demo', PORT = '3000' } = process.env
const model = createApar({ baseURL: `${APAR_URL}/v1` })(APAR_MODEL)

const { outputFiles } = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ['page.jsx'],
  bundle: true,
  minify: true,
  write: false,
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"' },
})
const script = outputFiles[0].text.replaceAll('</script', '<\\/script')
const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>apar and useChat</title>
<meta name="viewport" content="width=device-width"><div id="root"></div><script type="module">${script}</script></html>`

const server = createServer(async (request, response) => {
  if (request.method !== 'POST') return response.setHeader('content-type', 'text/html').end(page)
  const { messages } = JSON.parse(await text(request))
  const modelMessages = await convertToModelMessages(messages)
  const abort = new AbortController()
  response.once('close', () => abort.abort())
  const stream = createUIMessageStream({
    execute({ writer }) {
      const result = streamText({
        model,
        messages: modelMessages,
        abortSignal: abort.signal,
        includeRawChunks: true,
      })
      writer.merge(result.toUIMessageStream({ onError: textOf }))
      writer.merge(branchParts(result.fullStream))
    },
  })
  pipeUIMessageStreamToResponse({ response, stream })
})
server.listen(Number(PORT), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`)
})

/** What users see of an error: the server's sentences are made for them. */
function textOf(error) {
  return aparErrorOf(error)?.message ?? 'something failed'
}
