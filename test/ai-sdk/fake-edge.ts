import { createApar } from '../../ai-sdk/index.ts'

export interface FakeEdge {
  readonly apar: ReturnType<typeof createApar>
  /** The requests that it got. */
  readonly requests: { url: string; headers: Headers; body: Record<string, unknown>; signal: AbortSignal }[]
}

/** An edge without a network that gives one answer after the other: the chunks of a stream, or a whole response. */
export function fakeEdge(...answers: (readonly object[] | Response)[]): FakeEdge {
  const requests: FakeEdge['requests'] = []
  const apar = createApar({
    apiKey: 'key',
    fetch: async (url, init) => {
      const request = new Request(url as string, init)
      const body = (await request.clone().json()) as Record<string, unknown>
      requests.push({ url: request.url, headers: request.headers, body, signal: request.signal })
      const answer = answers[requests.length - 1]
      if (!answer) throw new Error('no more answers')
      return answer instanceof Response ? answer : sse(answer)
    },
  })
  return { apar, requests }
}

function sse(chunks: readonly object[]): Response {
  const lines = chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`)
  return new Response(`${lines.join('')}data: [DONE]\n\n`, {
    headers: { 'content-type': 'text/event-stream' },
  })
}

const HEAD = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1_700_000_000, model: 'demo' }
const choice = (delta: object, finish_reason: string | null = null) => ({
  ...HEAD,
  choices: [{ index: 0, delta, logprobs: null, finish_reason }],
})

export const accepted = {
  ...choice({ role: 'assistant', content: '' }),
  apar: { event: 'accepted', joints: 'kept' },
}
export const fork = (branch: number, parent: number, at: number) => {
  return { ...choice({}), apar: { event: 'fork', branch, parent, at } }
}
export const delta = (branch: number, content: string) => {
  return { ...choice({ content }), apar: { event: 'delta', branch } }
}
export const branchEnd = (branch: number, reason = 'stop') => {
  return { ...choice({}), apar: { event: 'branch_end', branch, reason } }
}
export const toolCalls = (...calls: object[]) => choice({ tool_calls: calls })
export const finish = (reason: string) => choice({}, reason)
export const usage = {
  ...HEAD,
  choices: [],
  usage: {
    prompt_tokens: 5,
    completion_tokens: 7,
    total_tokens: 12,
    prompt_tokens_details: { cached_tokens: 3 },
  },
}
export const failure = (code: string, message: string) => {
  return { error: { message, type: 'server_error', param: null, code } }
}

/** Two details of a list, whose texts come in turns. */
export const FORKED = [
  accepted,
  delta(0, 'List:\n1. tar'),
  fork(1, 0, 12),
  delta(0, '\n2. gzip'),
  fork(2, 0, 20),
  delta(2, ': shrinks'),
  delta(1, ': packs'),
  branchEnd(0),
  delta(1, ' files'),
  branchEnd(2, 'length'),
  branchEnd(1),
  finish('stop'),
  usage,
]
export const FORKED_TEXT = 'List:\n1. tar: packs files\n2. gzip: shrinks'
