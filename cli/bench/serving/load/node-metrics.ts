import { setTimeout as sleep } from 'node:timers/promises'

/**
 * What a gpu node's metrics say about a cell. A figure that the node does not have is absent, and so are peaks of a cell
 * that ended before the first reading.
 */
export interface NodeFigures {
  /** KV blocks that there are. */
  readonly kv_blocks?: number
  /** Most of the KV blocks in use at a time, 0 to 1. */
  readonly kv_peak?: number
  readonly most_running_requests?: number
  readonly most_branches?: number
  readonly steps?: number
  readonly generated_tokens?: number
  readonly preemptions?: number
  readonly drafted?: number
  readonly accepted?: number
}

/** Names of the same thing at apar's gpu nodes and at vLLM's servers. */
const GAUGES = {
  kv_peak: ['apar_kv_cache_usage_perc', 'vllm:kv_cache_usage_perc', 'vllm:gpu_cache_usage_perc'],
  most_running_requests: ['apar_num_requests_running', 'vllm:num_requests_running'],
  most_branches: ['apar_num_branches_live'],
} as const
const COUNTERS = {
  steps: ['apar_steps_total'],
  generated_tokens: ['apar_generation_tokens_total', 'vllm:generation_tokens_total'],
  preemptions: ['apar_num_preemptions_total', 'vllm:num_preemptions_total'],
  drafted: ['apar_drafted_tokens_total', 'vllm:spec_decode_num_draft_tokens_total'],
  accepted: ['apar_accepted_tokens_total', 'vllm:spec_decode_num_accepted_tokens_total'],
} as const

/** A label of apar_engine_info, and of vllm:cache_config_info. */
const KV_BLOCKS = /\bnum_(?:gpu_)?blocks="(\d+)"/

const BLOCKS = 'kv_blocks'

const EVERY_MS = 250

export interface MetricsSource {
  readonly url: string
  readonly secret: string | undefined
}

/** Reads the metrics of a node several times a second, from `start` to `stop`. */
export class NodeWatch {
  readonly #source: MetricsSource
  readonly #first: ReadonlyMap<string, number>
  readonly #peaks = new Map<string, number>()
  readonly #stopped = new AbortController()
  readonly #watching: Promise<void>

  private constructor(source: MetricsSource, first: ReadonlyMap<string, number>) {
    this.#source = source
    this.#first = first
    this.#watching = this.#watch()
  }

  /** @throws Error when there are no metrics. */
  static async start(source: MetricsSource): Promise<NodeWatch> {
    return new NodeWatch(source, await readMetrics(source))
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      await sleep(EVERY_MS, undefined, { signal }).catch(() => {})
      // A node that is too busy to answer misses a reading.
      if (!signal.aborted) await this.#read().catch(() => {})
    }
  }

  async stop(): Promise<NodeFigures> {
    this.#stopped.abort()
    await this.#watching
    // What is in use now says nothing about the load, which has ended.
    const last = await readMetrics(this.#source)
    const blocks = last.get(BLOCKS)
    const figures: Record<string, number> = {
      ...(blocks !== undefined && { kv_blocks: blocks }),
      ...Object.fromEntries(this.#peaks),
    }
    for (const [name, spellings] of Object.entries(COUNTERS)) {
      const [before, after] = [this.#first, last].map((metrics) => figureIn(metrics, spellings))
      if (before !== undefined && after !== undefined) figures[name] = after - before
    }
    return figures
  }

  async #read(): Promise<void> {
    const metrics = await readMetrics(this.#source)
    if (this.#stopped.signal.aborted) return
    for (const [name, spellings] of Object.entries(GAUGES)) {
      const value = figureIn(metrics, spellings)
      if (value !== undefined) this.#peaks.set(name, Math.max(value, this.#peaks.get(name) ?? 0))
    }
  }
}

function figureIn(metrics: ReadonlyMap<string, number>, spellings: readonly string[]): number | undefined {
  return spellings.map((name) => metrics.get(name)).find((value) => value !== undefined)
}

async function readMetrics({ url, secret }: MetricsSource): Promise<ReadonlyMap<string, number>> {
  const headers = secret === undefined ? {} : { authorization: `Bearer ${secret}` }
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(10_000) })
  const text = await response.text()
  if (!response.ok) throw new Error(`${url} answered ${response.status}`)
  const blocks = KV_BLOCKS.exec(text)?.[1]
  return new Map([...sumsOf(text), ...(blocks === undefined ? [] : [[BLOCKS, Number(blocks)] as const])])
}

/** The values of a text of Prometheus by name, summed over the labels. */
export function sumsOf(text: string): ReadonlyMap<string, number> {
  const sums = new Map<string, number>()
  for (const line of text.split('\n')) {
    const [, name = '', value = ''] = /^([a-zA-Z_:][\w:]*)(?:\{.*\})?\s+(\S+)/.exec(line) ?? []
    if (name !== '') sums.set(name, (sums.get(name) ?? 0) + Number(value))
  }
  return sums
}
