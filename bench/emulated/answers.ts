import { createRequire } from 'node:module'
import type { Engine, EngineStats, OnEvents } from '../../gpu-node/engine/engine.ts'
import type { EngineConfig } from '../../gpu-node/engine/engine-config.ts'
import { EVENT, EVENT_WIDTH, FINISH } from '../../gpu-node/engine/engine-events.ts'
import { ADDON } from '../../gpu-node/engine/engine-files.ts'
import { type EngineRequest, engineRequestSchema } from '../../gpu-node/engine/engine-request.ts'
import { NO_TEXT, type TokenTable } from '../../gpu-node/engine/token-table.ts'

/**
 * The addon without what gpu nodes put before it: they keep KV blocks for the deepest trees, and these requests are to
 * be short of blocks.
 */
interface Addon {
  load(config: EngineConfig): Promise<object>
  start(model: object, text: TokenTable, onEvents: OnEvents): Engine
}

/** The tokens of each branch by its path: the positions at which it and its ancestors begin, the root's being `0`. */
export type Answer = ReadonlyMap<string, readonly number[]>

export interface Run {
  readonly answers: readonly Answer[]
  readonly stats: EngineStats
  readonly seconds: number
}

/**
 * Answers all requests at once. Numbers of branches are not compared between devices: they count the forks in order of time.
 * @throws Error when a request ends otherwise than with `stop` or `length`
 */
export async function answer(config: EngineConfig, requests: readonly EngineRequest[]): Promise<Run> {
  const recorders = new Map(requests.map(({ id }) => [id, new Recorder()]))
  let left = requests.length
  let end: (failure?: Error) => void = () => {}
  const ended = new Promise<void>((resolve, reject) => {
    end = (failure) => (failure ? reject(failure) : resolve())
  })
  const addon = createRequire(import.meta.url)(ADDON) as Addon
  const engine = addon.start(await addon.load(config), NO_TEXT, (rows, failure) => {
    if (failure !== undefined) end(new Error(failure))
    for (let at = 0; at < rows.length; at += EVENT_WIDTH) {
      const [kind, request, branch, a, b] = rows.subarray(at, at + EVENT_WIDTH) as unknown as Row
      recorders.get(request)?.add(kind, branch, a, b)
      if (kind !== EVENT.FINISH) continue
      if (a !== FINISH.STOP && a !== FINISH.LENGTH) end(new Error(`request ${request} ended with ${a}`))
      if (--left === 0) end()
    }
  })
  try {
    const begun = performance.now()
    const schema = engineRequestSchema(config.model.vocabSize)
    for (const request of requests) engine.submit(schema.parse(request))
    await ended
    const seconds = (performance.now() - begun) / 1000
    return {
      answers: [...recorders.values()].map((recorder) => recorder.byPath),
      stats: engine.stats(),
      seconds,
    }
  } finally {
    await engine.close()
  }
}

type Row = [kind: number, request: number, branch: number, a: number, b: number]

class Recorder {
  readonly #branches = new Map([[0, { path: '0', tokens: [] as number[] }]])

  add(kind: number, branch: number, a: number, b: number): void {
    const of = this.#branches.get(branch)
    if (kind === EVENT.TOKEN) of?.tokens.push(a)
    if (kind === EVENT.FORK) this.#branches.set(a, { path: `${of?.path} ${b}`, tokens: [] })
  }

  get byPath(): Answer {
    return new Map([...this.#branches.values()].map(({ path, tokens }) => [path, tokens]))
  }
}

/** Where two answers go apart; undefined where they are the same. */
export function difference(expected: Answer, found: Answer): string | undefined {
  for (const [path, tokens] of expected) {
    const others = found.get(path)
    if (others === undefined) return `branch ${path} is missing`
    const at = tokens.findIndex((token, index) => token !== others[index])
    if (at !== -1) return `token ${at} of branch ${path} is ${others[at]}, not ${tokens[at]}`
    if (others.length !== tokens.length)
      return `branch ${path} has ${others.length} tokens, not ${tokens.length}`
  }
  const more = [...found.keys()].find((path) => !expected.has(path))
  return more === undefined ? undefined : `there is no branch ${more} on the CPU`
}
