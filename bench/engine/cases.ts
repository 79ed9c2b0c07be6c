import { type Engine, EVENT, EVENT_WIDTH } from '../../gpu-node/engine/types.ts'

/** Tokens per second of one measured run. */
export interface Rate {
  tokens: number
  seconds: number
}

/** Counts events of an engine and lets a bench wait for some of them. */
export class EventCounter {
  #tokens = 0
  #finished = 0
  #wake = () => {}

  readonly onEvents = (rows: Int32Array): void => {
    for (let row = 0; row < rows.length; row += EVENT_WIDTH) {
      if (rows[row] === EVENT.TOKEN) this.#tokens++
      else if (rows[row] === EVENT.FINISH) this.#finished++
    }
    this.#wake()
  }

  get tokens(): number {
    return this.#tokens
  }

  async until(done: (counter: { tokens: number; finished: number }) => boolean): Promise<void> {
    while (!done({ tokens: this.#tokens, finished: this.#finished })) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  get finished(): number {
    return this.#finished
  }
}

let lastId = 0

/** `count` branches decode `each` tokens over one shared prompt; the time of the prompt is not counted. */
export async function decode(
  engine: Engine,
  counter: EventCounter,
  prompt: Int32Array,
  count: number,
  each: number,
): Promise<Rate> {
  const tokens = counter.tokens
  const finished = counter.finished
  for (let branch = 0; branch < count; branch++) submit(engine, prompt, each)
  // All have their first token: from here on every step decodes `count` rows.
  await counter.until((now) => now.tokens - tokens >= count)
  const begun = performance.now()
  const from = counter.tokens
  await counter.until((now) => now.finished - finished >= count)
  return { tokens: counter.tokens - from, seconds: (performance.now() - begun) / 1000 }
}

/** The time to the first token of a prompt that nobody has seen. */
export async function prefill(engine: Engine, counter: EventCounter, prompt: Int32Array): Promise<Rate> {
  const finished = counter.finished
  const begun = performance.now()
  submit(engine, prompt, 1)
  await counter.until((now) => now.finished > finished)
  return { tokens: prompt.length, seconds: (performance.now() - begun) / 1000 }
}

function submit(engine: Engine, prompt: Int32Array, maxTokens: number): void {
  engine.submit({
    id: ++lastId,
    prompt,
    maxTokens,
    maxBranches: 1,
    maxDepth: 1,
    temperature: 0,
    topP: 1,
    topK: 0,
    minP: 0,
    repetitionPenalty: 1,
    seed: 0,
    stopTokens: new Int32Array(),
    maxBranchTokens: 0,
    logprobs: -1,
    logitBias: { tokens: new Int32Array(), values: new Float32Array() },
    branches: [],
  })
}

/** A prompt that shares no prefix with the other seeds'. */
export function randomPrompt(length: number, seed: number, vocabSize: number): Int32Array {
  let state = (seed + 1) * 2654435761
  return Int32Array.from({ length }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return 3 + (state % (vocabSize - 3))
  })
}
