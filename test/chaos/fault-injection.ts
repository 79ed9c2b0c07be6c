import WebSocket from 'ws'
import { openStream, type StreamEvent } from '../../client/index.ts'
import type { ServerFrame } from '../../shared/protocol/events.ts'

/** Greedy answers to these prompts end by themselves, so the texts do not depend on how branches share `max_tokens`. */
export const PROMPTS = ['How do I use tar?', 'How do I use git stash?', 'What is a symbolic link?']

export interface Target {
  readonly url: string
  readonly key: string
}

/** The result of one stream under faults, counted on its sockets, below the client code that assembles the events. */
export interface FaultResult {
  readonly text: string
  readonly events: number
  readonly lost: number
  readonly duplicated: number
  readonly connections: number
  /** Why the stream failed; undefined when it completed. */
  readonly failure: string | undefined
}

/** Given to a fault injector after each event. */
export interface StreamControls {
  readonly events: number
  /** The stream's name at the edge. */
  readonly stream: string
  /** Closes the connection without a closing handshake. */
  disconnect(): void
  /** Cancels the stream. */
  cancel(): void
}

export type InjectFault = (controls: StreamControls) => void | Promise<void>

/** Reads one greedy answer to its end, while `injectFault` may inject a fault after each event. */
export async function readWithFaults(
  { url, key }: Target,
  prompt: string,
  injectFault: InjectFault = () => {},
): Promise<FaultResult> {
  let [next, lost, duplicated] = [0, 0, 0]
  const sockets: WebSocket[] = []
  class Recorded extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols)
      sockets.push(this)
      this.on('message', (data) => {
        const frame: ServerFrame = JSON.parse(String(data))
        if (frame.type === 'keep_alive') return
        const first = frame.type === 'deltas' ? frame.first : frame.seq
        lost += Math.max(0, first - next)
        duplicated += Math.max(0, next - first)
        next = Math.max(next, frame.seq + 1)
      })
    }
  }
  const stream = openStream({
    baseUrl: url,
    apiKey: key,
    request: {
      model: 'demo',
      messages: [{ role: 'user', content: prompt }],
      temperature: 0,
      max_tokens: 900,
    },
    WebSocket: Recorded,
  })
  let failure: string | undefined
  let last: StreamEvent | undefined
  let events = 0
  try {
    for await (const event of stream) {
      last = event
      events++
      await injectFault({
        events,
        stream: stream.id ?? '',
        disconnect: () => sockets.at(-1)?.terminate(),
        cancel: () => stream.cancel(),
      })
    }
    if (last?.type !== 'done' || last.reason !== 'stop') failure = `ended with ${JSON.stringify(last)}`
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error)
  }
  return { text: stream.tree.text(), events: next, lost, duplicated, connections: sockets.length, failure }
}

/** The answers to PROMPTS without faults, by prompt. */
export async function referenceTexts(target: Target): Promise<Map<string, string>> {
  const texts = new Map<string, string>()
  for (const prompt of PROMPTS) {
    const { text, failure } = await readWithFaults(target, prompt)
    if (failure !== undefined) throw new Error(`an answer failed without faults: ${failure}`)
    texts.set(prompt, text)
  }
  return texts
}

/** Totals over many streams. */
export class FaultTotals {
  streams = 0
  events = 0
  lost = 0
  duplicated = 0
  failed = 0
  /** Completed streams whose text differs from the answer without faults. */
  different = 0
  readonly #texts: ReadonlyMap<string, string>

  constructor(texts: ReadonlyMap<string, string>) {
    this.#texts = texts
  }

  add(prompt: string, { text, events, lost, duplicated, failure }: FaultResult): void {
    this.streams++
    this.events += events
    this.lost += lost
    this.duplicated += duplicated
    if (failure !== undefined) this.failed++
    else if (text !== this.#texts.get(prompt)) this.different++
  }
}
