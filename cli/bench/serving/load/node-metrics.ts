import { setTimeout as sleep } from 'node:timers/promises'
import { UserError } from '../../../explain.ts'

/**
 * What a gpu node's metrics say about a cell. A figure that the node does not have is absent, and so are peaks of a cell
 * in which no reading met a request.
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
  /** Computed ones of prompts, and those of pre-empted branches that were computed again. */
  readonly prefill_tokens?: number
  readonly preemptions?: number
  readonly drafted?: number
  readonly accepted?: number
}

/** Names of the same thing at apar's gpu nodes and at vLLM's servers. */
const GAUGES = {
  kv_usage: ['apar_kv_cache_usage_perc', 'vllm:kv_cache_usage_perc', 'vllm:gpu_cache_usage_perc'],
  running_requests: ['apar_num_requests_running', 'vllm:num_requests_running'],
  waiting_requests: ['apar_num_requests_waiting', 'vllm:num_requests_waiting'],
  branches: ['apar_num_branches_live'],
  preempted: ['apar_num_branches_preempted', 'vllm:num_requests_swapped'],
} as const
const PEAKS = {
  kv_peak: 'kv_usage',
  most_running_requests: 'running_requests',
  most_branches: 'branches',
} as const
const COUNTERS = {
  steps: ['apar_steps_total'],
  generated_tokens: ['apar_generation_tokens_total', 'vllm:generation_tokens_total'],
  prefill_tokens: ['apar_prefill_tokens_total', 'vllm:prompt_tokens_total'],
  preemptions: ['apar_num_preemptions_total', 'vllm:num_preemptions_total'],
  drafted: ['apar_drafted_tokens_total', 'vllm:spec_decode_num_draft_tokens_total'],
  accepted: ['apar_accepted_tokens_total', 'vllm:spec_decode_num_accepted_tokens_total'],
} as const

/** A label of apar_engine_info, and of vllm:cache_config_info. */
const KV_BLOCKS = /\bnum_(?:gpu_)?blocks="(\d+)"/

const BLOCKS = 'kv_blocks'

const EVERY_MS = 250

/**
 * What the metrics said at a time: gauges as they were, counters from the begin on. What the node does not have is absent.
 * `preempted`: branches, of vLLM requests, that wait for KV blocks that others have taken from them.
 */
export type NodeReading = {
  /** Since the begin. */
  readonly at_ms: number
} & { readonly [name in keyof typeof GAUGES | keyof typeof COUNTERS]?: number | undefined }

export interface MetricsSource {
  readonly url: string
  readonly secret: string | undefined
}

/** Reads the metrics of a node several times a second, from `start` to `stop`. */
export class NodeWatch {
  readonly #source: MetricsSource
  readonly #begun = performance.now()
  readonly #first: ReadonlyMap<string, number>
  readonly #readings: NodeReading[] = []
  readonly #stopped = new AbortController()
  readonly #watching: Promise<void>

  private constructor(source: MetricsSource, first: ReadonlyMap<string, number>) {
    this.#source = source
    this.#first = first
    this.#readings.push(this.#readingOf(first))
    this.#watching = this.#watch()
  }

  /** @throws UserError `not_measured` when there are no metrics. */
  static async start(source: MetricsSource): Promise<NodeWatch> {
    return new NodeWatch(source, await readMetrics(source))
  }

  /** In the order of time: one before the load, those while it ran, and since `stop` one behind it, if it could be read. */
  get readings(): readonly NodeReading[] {
    return this.#readings
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
    // What is in use before and behind the load says nothing about it.
    const during = this.#readings.slice(1)
    // A node that has died with the load has no last reading: what the requests took is measured all the same.
    const last = await readMetrics(this.#source).catch(() => undefined)
    const end = last && this.#readingOf(last)
    if (end) this.#readings.push(end)
    const blocks = (last ?? this.#first).get(BLOCKS)
    const figures: Record<string, number> = { ...(blocks !== undefined && { kv_blocks: blocks }) }
    // Readings that all came between two requests say nothing about the most.
    const idle = during.every(({ running_requests }) => running_requests === 0)
    for (const [peak, gauge] of idle ? [] : Object.entries(PEAKS)) {
      const values = during.flatMap((reading) => reading[gauge] ?? [])
      if (values.length > 0) figures[peak] = Math.max(...values)
    }
    for (const name of Object.keys(COUNTERS) as (keyof typeof COUNTERS)[]) {
      const value = end?.[name]
      if (value !== undefined) figures[name] = value
    }
    return figures
  }

  async #read(): Promise<void> {
    const metrics = await readMetrics(this.#source)
    if (!this.#stopped.signal.aborted) this.#readings.push(this.#readingOf(metrics))
  }

  #readingOf(metrics: ReadonlyMap<string, number>): NodeReading {
    const reading: Record<string, number> = {}
    for (const [name, spellings] of Object.entries(GAUGES)) {
      const value = figureIn(metrics, spellings)
      if (value !== undefined) reading[name] = value
    }
    for (const [name, spellings] of Object.entries(COUNTERS)) {
      const [before, after] = [this.#first, metrics].map((each) => figureIn(each, spellings))
      if (before !== undefined && after !== undefined) reading[name] = after - before
    }
    return { at_ms: Math.round(performance.now() - this.#begun), ...reading }
  }
}

function figureIn(metrics: ReadonlyMap<string, number>, spellings: readonly string[]): number | undefined {
  return spellings.map((name) => metrics.get(name)).find((value) => value !== undefined)
}

async function readMetrics({ url, secret }: MetricsSource): Promise<ReadonlyMap<string, number>> {
  const headers = secret === undefined ? {} : { authorization: `Bearer ${secret}` }
  const failed = (why: string) =>
    new UserError('not_measured', `the metrics of the node cannot be read: ${url} ${why}`)
  const [response, text] = await fetch(url, { headers, signal: AbortSignal.timeout(10_000) })
    .then(async (answer) => [answer, await answer.text()] as const)
    .catch((error) => Promise.reject(failed(`does not answer (${String(error.cause?.code ?? error.name)})`)))
  if (!response.ok) throw failed(`answered ${response.status}`)
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
