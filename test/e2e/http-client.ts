import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import type { Socket } from 'node:net'

export interface SseEvent {
  /** '' when it has none. */
  readonly id: string
  readonly data: string
}

export interface Target {
  readonly url: string
  readonly key: string
}

/** One HTTP call on a TCP connection of its own, which can be cut at any moment. */
export class Call {
  readonly response: Promise<IncomingMessage>
  readonly #socket: Promise<Socket>

  constructor({ url, key }: Target, method: string, path: string, body?: object, headers: object = {}) {
    const call = request(`${url}${path}`, {
      method,
      agent: false,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    })
    this.#socket = once(call, 'socket').then(([socket]) => socket)
    this.response = once(call, 'response').then(([response]) => response)
    // The response is not awaited once the connection was cut.
    this.response.catch(() => {})
    call.on('error', () => {})
    call.end(body && JSON.stringify(body))
  }

  async status(): Promise<number> {
    return (await this.response).statusCode ?? 0
  }

  async text(): Promise<string> {
    let text = ''
    for await (const part of (await this.response).setEncoding('utf8')) text += part
    return text
  }

  /** Server-sent events; comments are left out. Leaving the loop closes the connection. */
  async *events(): AsyncGenerator<SseEvent, void> {
    let buffer = ''
    for await (const part of (await this.response).setEncoding('utf8')) {
      const blocks = (buffer + part).split('\n\n')
      buffer = blocks.pop() ?? ''
      for (const block of blocks) {
        const data = /^data: (.*)$/m.exec(block)?.[1]
        if (data !== undefined) yield { id: /^id: (.*)$/m.exec(block)?.[1] ?? '', data }
      }
    }
  }

  /** Closes the connection in order (FIN). */
  async close(): Promise<void> {
    ;(await this.#socket).destroy()
  }

  /** Resets the connection (RST), as when a client is killed. */
  async reset(): Promise<void> {
    ;(await this.#socket).resetAndDestroy()
  }
}

interface ChunkChoice {
  index: number
  delta: { content?: string }
  token_ids?: number[]
}

/** The text of chat chunks, per choice. */
export function textsOf(events: readonly SseEvent[]): string[] {
  const texts: string[] = []
  for (const { index, delta } of choicesOf(events))
    texts[index] = (texts[index] ?? '') + (delta.content ?? '')
  return texts
}

/** The ids of their tokens, per choice. */
export function idsOf(events: readonly SseEvent[]): number[][] {
  const ids: number[][] = []
  for (const { index, token_ids = [] } of choicesOf(events))
    ids[index] = [...(ids[index] ?? []), ...token_ids]
  return ids
}

function choicesOf(events: readonly SseEvent[]): ChunkChoice[] {
  return events.flatMap(({ data }) => {
    if (data === '[DONE]') return []
    const { choices = [], error } = JSON.parse(data) as { choices?: ChunkChoice[]; error?: object }
    if (error) throw new Error(`the answer failed: ${data}`)
    return choices
  })
}
