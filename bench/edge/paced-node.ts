import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { serveRunner } from '../../gpu-node/main.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { Runner } from '../../gpu-node/requests/runner.ts'
import { PromptPool } from '../../gpu-node/text/prompt-pool.ts'
import { ChatCompletionRequest } from '../../shared/openai.ts'
import { parseJson } from '../../shared/parse.ts'
import { PACED_MODEL, PacedEngine } from './paced-engine.ts'

/** Messages to the parent process. */
export type PacedNodeMessage =
  | { readonly type: 'ready'; readonly url: string; readonly openAiUrl: string }
  | { readonly type: 'begun'; readonly seed: number; readonly first: number }

/** Large enough for every request; the paced engine stores no context. */
const CONTEXT_TOKENS = 1_000_000

/** Runs a gpu node with a paced engine in its own process; everything else is as in production. */
async function main(): Promise<void> {
  const { NODE_SECRET = '', EDGE_URL = '', STEP_MS = '', DIAL_IN } = process.env
  const report = (message: PacedNodeMessage) => process.send?.(message)
  const runner = await openPacedRunner(Number(STEP_MS), (seed, first) =>
    report({ type: 'begun', seed, first }),
  )
  const dialIn = DIAL_IN === '1'
  const node = await serveRunner(runner, { nodeSecret: NODE_SECRET, edgeUrl: EDGE_URL, dialIn })
  await node.registered
  report({ type: 'ready', url: node.url, openAiUrl: await serveOpenAi(runner) })
  process.once('disconnect', () => process.exit())
}

async function openPacedRunner(stepMs: number, onBegun: (seed: number, first: number) => void) {
  const demo = readCheckpoint(`${packageRoot}/models/demo`)
  const checkpoint = { ...demo, shape: { ...demo.shape, contextTokens: CONTEXT_TOKENS } }
  const { text: files, shape } = checkpoint
  const prompts = await PromptPool.open({ files, controlIds: [], vocabSize: shape.vocabSize })
  const { a: text = -1 } = files.tokenizer.model.vocab
  const { fork = -1, child = -1 } = checkpoint.tokens
  return await Runner.open({
    model: PACED_MODEL,
    checkpoint,
    prompts,
    maxBranches: 4096,
    openEngine: async (onEvents) =>
      new PacedEngine({ stepMs, tokens: { fork, child, text }, onBegun }, onEvents),
  })
}

/** Serves the same runner for other gateways, with OpenAI's streaming chat completions only. */
async function serveOpenAi(runner: Runner): Promise<string> {
  const server = createServer((request, response) => void complete(runner, request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
}

async function complete(runner: Runner, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { model, messages, max_tokens } = parseJson(ChatCompletionRequest, await textOf(request))
  const head = { id: 'chatcmpl-paced', object: 'chat.completion.chunk', created: 0, model }
  const chunk = (delta: object, finish_reason: string | null = null) =>
    response.write(`data: ${JSON.stringify({ ...head, choices: [{ index: 0, delta, finish_reason }] })}\n\n`)
  const content = String(messages[0]?.content)
  const generate = {
    model: PACED_MODEL,
    messages: [{ role: 'user' as const, content }],
    max_tokens: max_tokens ?? 16,
    branching: { enabled: false },
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  await runner.start('openai', generate, ({ events }) => {
    for (const event of events) {
      if (event.type === 'accepted') chunk({ role: 'assistant', content: '' })
      else if (event.type === 'delta') chunk({ content: event.text })
      else if (event.type === 'done') {
        chunk({}, 'stop')
        response.end('data: [DONE]\n\n')
      }
    }
  })
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

await main()
