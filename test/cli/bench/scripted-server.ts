import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A call that a scripted server got. */
export interface ScriptedCall {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Record<string, unknown>
}

export interface ScriptedServer {
  readonly url: string
  readonly calls: ScriptedCall[]
  close(): Promise<void>
}

/** A server that is not apar's: `answer` writes each response. */
export async function startScriptedServer(
  answer: (call: ScriptedCall, response: ServerResponse) => void | Promise<void>,
): Promise<ScriptedServer> {
  const calls: ScriptedCall[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const text = Buffer.concat(chunks).toString()
    const call = {
      path: request.url ?? '',
      headers: request.headers,
      body: text === '' ? {} : JSON.parse(text),
    }
    calls.push(call)
    await answer(call, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}

/** Data of events as an SSE stream. */
export function sse(...events: readonly (object | string)[]): string {
  return events
    .map((event) => `data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`)
    .join('')
}

/** A chat completion of these pieces, as vLLM streams it. */
export function chatStream(pieces: readonly string[], usage?: { prompt: number; output: number }): string {
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    ...{ id: 'c', object: 'chat.completion.chunk', model: 'm' },
    choices: [{ index: 0, delta, logprobs: null, finish_reason }],
  })
  return sse(
    chunk({ role: 'assistant', content: '' }),
    ...pieces.map((content) => chunk({ content })),
    chunk({}, 'stop'),
    ...(usage
      ? [
          {
            choices: [],
            usage: { prompt_tokens: usage.prompt, completion_tokens: usage.output, total_tokens: 0 },
          },
        ]
      : []),
    '[DONE]',
  )
}
