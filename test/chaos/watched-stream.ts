import WebSocket from 'ws'
import { openStream, type StreamEvent } from '../../client/index.ts'
import type { ServerFrame } from '../../shared/protocol/events.ts'

/** Their greedy answers end by themselves, so nothing depends on who is cut first. */
export const PROMPTS = ['How do I use tar?', 'How do I use git stash?', 'What is a symbolic link?']

export interface Target {
  readonly url: string
  readonly key: string
}

/** What came of one stream, counted on its sockets, below the client that puts it together. */
export interface Outcome {
  readonly text: string
  readonly events: number
  readonly lost: number
  readonly doubled: number
  readonly connections: number
  /** Why it failed; undefined when it ended well. */
  readonly failure: string | undefined
}

export interface Watch {
  readonly events: number
  /** Its name at the edge. */
  readonly stream: string
  /** Cuts the connection without a goodbye. */
  drop(): void
  /** Cancels the stream. */
  leave(): void
}

/** Reads one greedy answer to its end, through whatever happens to it. `onEvent` may do harm. */
export async function readWatched(
  { url, key }: Target,
  prompt: string,
  onEvent: (watch: Watch) => void | Promise<void> = () => {},
): Promise<Outcome> {
  let [next, lost, doubled] = [0, 0, 0]
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
        doubled += Math.max(0, next - first)
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
      await onEvent({
        events,
        stream: stream.id ?? '',
        drop: () => sockets.at(-1)?.terminate(),
        leave: () => stream.cancel(),
      })
    }
    if (last?.type !== 'done' || last.reason !== 'stop') failure = `ended with ${JSON.stringify(last)}`
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error)
  }
  return { text: stream.tree.text(), events: next, lost, doubled, connections: sockets.length, failure }
}

/** What the prompts' answers are when nothing happens. */
export async function undisturbed(target: Target): Promise<Map<string, string>> {
  const texts = new Map<string, string>()
  for (const prompt of PROMPTS) {
    const { text, failure } = await readWatched(target, prompt)
    if (failure !== undefined) throw new Error(`an undisturbed answer failed: ${failure}`)
    texts.set(prompt, text)
  }
  return texts
}

/** What came of many streams. */
export class Tally {
  streams = 0
  events = 0
  lost = 0
  doubled = 0
  failed = 0
  /** Texts that are not those of the undisturbed answers. */
  different = 0
  readonly #texts: ReadonlyMap<string, string>

  constructor(texts: ReadonlyMap<string, string>) {
    this.#texts = texts
  }

  add(prompt: string, { text, events, lost, doubled, failure }: Outcome): void {
    this.streams++
    this.events += events
    this.lost += lost
    this.doubled += doubled
    if (failure !== undefined) this.failed++
    else if (text !== this.#texts.get(prompt)) this.different++
  }
}
