import { WebSocket } from 'ws'
import { openStream } from '../../client/index.ts'
import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import { type Answer, showBranches, showOrdered, summary } from './show.ts'
import { traceSummary } from './trace-summary.ts'

/** Where questions go, and with which settings. */
export interface Chat {
  readonly baseUrl: string
  readonly apiKey: string
  readonly request: Omit<GenerateRequest, 'messages'>
  readonly json: boolean
}

/** Asks one question and shows the answer; when `signal` aborts it, the answer is the text received so far. */
export async function ask(
  chat: Chat,
  messages: readonly ChatMessage[],
  signal: AbortSignal,
): Promise<string> {
  const { baseUrl, apiKey, request, json } = chat
  const begun = performance.now()
  const full = { ...request, messages: [...messages] }
  const stream = openStream({ baseUrl, apiKey, request: full, signal, WebSocket })
  const { stdout, stderr } = process
  const answer = await show(stream, request, json)
  const elapsedMs = performance.now() - begun
  if (json) stdout.write(`${JSON.stringify(asJson(answer, request.model, elapsedMs))}\n`)
  else if (stderr.isTTY) console.error(`(${summary(answer, elapsedMs)})`)
  if (request.trace) console.error(`(${traceSummary(stream.trace)})`)
  return answer.text
}

async function show(
  stream: ReturnType<typeof openStream>,
  { branching }: Chat['request'],
  json: boolean,
): Promise<Answer> {
  const { stdout } = process
  if (json) return await showOrdered(stream, { write: () => true }, false)
  // A terminal that cannot move its cursor gets the text only.
  const isLive = stdout.isTTY && process.env.TERM !== 'dumb' && !branching
  return isLive ? await showBranches(stream, stdout) : await showOrdered(stream, stdout, stdout.isTTY)
}

function asJson({ text, done }: Answer, model: string, elapsedMs: number) {
  return {
    model,
    text,
    reason: done?.reason ?? 'abort',
    usage: done?.usage ?? null,
    ms: Math.round(elapsedMs),
  }
}
