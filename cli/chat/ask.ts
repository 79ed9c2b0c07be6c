import { WebSocket } from 'ws'
import { openStream } from '../../client/index.ts'
import type { BranchTree } from '../../shared/branch-tree.ts'
import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import { type Answer, showBranches, showOrdered, summary } from './show.ts'
import { traceSummary } from './trace-summary.ts'

/** Where questions go, and with which settings. */
export interface Chat {
  readonly baseUrl: string
  readonly apiKey: string
  readonly request: Omit<GenerateRequest, 'messages'>
  readonly json: boolean
  /** On a terminal, what the model thinks stands in front of its answer. */
  showsReasoning: boolean
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
  const answer = await show(stream, chat)
  const elapsedMs = performance.now() - begun
  if (json) stdout.write(`${JSON.stringify(asJson(answer, stream.tree, request.model, elapsedMs))}\n`)
  else if (stderr.isTTY) console.error(`(${summary(answer, elapsedMs)})`)
  if (request.trace) console.error(`(${traceSummary(stream.trace)})`)
  return answer.text
}

async function show(
  stream: ReturnType<typeof openStream>,
  { request: { branching }, json, showsReasoning }: Chat,
): Promise<Answer> {
  const { stdout } = process
  if (json) return await showOrdered(stream, { write: () => true }, { clean: false, showsReasoning: false })
  // A terminal that cannot move its cursor gets the text only.
  const isLive = stdout.isTTY && process.env.TERM !== 'dumb' && !branching
  if (isLive) return await showBranches(stream, stdout, { showsReasoning })
  // What goes to a file or a program is the answer alone.
  const isTerminal = stdout.isTTY === true
  return await showOrdered(stream, stdout, {
    clean: isTerminal,
    showsReasoning: isTerminal && showsReasoning,
  })
}

function asJson({ text, reasoning, done }: Answer, tree: BranchTree, model: string, elapsedMs: number) {
  return {
    model,
    text,
    ...(reasoning !== '' && { reasoning }),
    branches: tree.branches().map(({ id, parent, at, text }) => ({ id, parent, at, text })),
    reason: done?.reason ?? 'abort',
    usage: done?.usage ?? null,
    ms: Math.round(elapsedMs),
  }
}
