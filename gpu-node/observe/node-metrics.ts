import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { ErrorCode } from '../../shared/errors.ts'
import type { EngineStats } from '../engine/engine.ts'
import { shortDevice } from '../health.ts'
import type { RequestObserver, RequestRecord } from '../requests/request-watch.ts'
import type { Runner } from '../requests/runner.ts'
import { BucketHistogram } from './histogram.ts'

const TTFT_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  160,
]
/** Few, because each tenant has all of them. */
const TENANT_TTFT_SECONDS = [0.01, 0.1, 0.5, 1, 5, 10, 60]
/** Bounds the number of time series. */
const MAX_TENANTS = 64
/** The label of requests whose edge names no tenant. */
const NO_TENANT = 'none'
const ITL_SECONDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10,
]
const E2E_SECONDS = [
  0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920,
]
const BRANCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256]

interface EngineMetric {
  name: string
  help: string
  value: (stats: EngineStats) => number
}

/** Counters of draft tokens, by the source that drafted them. */
const DRAFT_METRICS = [
  {
    name: 'drafted_tokens_total',
    help: 'Tokens drafted by speculative decoding.',
    value: (s: EngineStats) => s.draftedTokens,
  },
  {
    name: 'accepted_tokens_total',
    help: 'Drafted tokens that became tokens of answers.',
    value: (s: EngineStats) => s.acceptedTokens,
  },
]

/**
 * Metrics that the engine counts itself, read at each scrape. Names ending in `_total` are counters, the others
 * gauges.
 */
function engineMetrics(numBlocks: number): EngineMetric[] {
  return [
    { name: 'num_requests_running', help: 'Requests being decoded.', value: (s) => s.runningRequests },
    {
      name: 'num_requests_waiting',
      help: 'Requests that wait to be admitted, or for their prompt to be encoded.',
      value: (s) => s.waitingRequests,
    },
    { name: 'num_branches_live', help: 'Branches that have not ended.', value: (s) => s.liveBranches },
    { name: 'num_branches_running', help: 'Branches in the batch.', value: (s) => s.runningBranches },
    {
      name: 'num_branches_preempted',
      help: 'Branches preempted, waiting for free blocks.',
      value: (s) => s.preemptedBranches,
    },
    {
      name: 'kv_cache_usage_perc',
      help: 'Share of the KV blocks in use, 0 to 1; blocks of the prefix cache count as free.',
      value: (s) => s.usedBlocks / numBlocks,
    },
    {
      name: 'prefix_cache_usage_perc',
      help: 'Share of the KV blocks that hold only cached prefixes, 0 to 1.',
      value: (s) => s.cachedBlocks / numBlocks,
    },
    {
      name: 'step_time_seconds',
      help: 'One forward pass, averaged over about the last 20.',
      value: (s) => s.stepSeconds,
    },
    {
      name: 'step_row_limit',
      help: 'Rows that the last step could have: fewer than --max-step-tokens while tenants share the steps.',
      value: (s) => s.rowLimit,
    },
    { name: 'steps_total', help: 'Forward passes.', value: (s) => s.steps },
    {
      name: 'generation_tokens_total',
      help: 'Tokens decoded, over all branches, counted as in usage.',
      value: (s) => s.generatedTokens,
    },
    {
      name: 'prefill_tokens_total',
      help: 'Prompt tokens computed, and tokens of preempted branches computed again.',
      value: (s) => s.prefillTokens,
    },
    { name: 'num_preemptions_total', help: 'Preemptions of branches so far.', value: (s) => s.preemptions },
    {
      name: 'grammar_masks_total',
      help: 'Masks of the tokens that structured output allows, one for each token.',
      value: (s) => s.grammarMasks,
    },
    {
      name: 'grammar_mask_seconds_total',
      help: 'Time for all of them, beside forward passes.',
      value: (s) => s.grammarMaskSeconds,
    },
    { name: 'forks_total', help: 'Forks that the model made.', value: (s) => s.forks },
    {
      name: 'forks_refused_total',
      help: 'Positions where the fork token was the most likely but not allowed.',
      value: (s) => s.forksRefused,
    },
  ]
}

/**
 * A gpu node's metrics for Prometheus, listed in docs/operations.md. Where vLLM has the same metric, name (after
 * the prefix), meaning and unit are the same.
 */
export class NodeMetrics implements RequestObserver {
  readonly registry = new Registry()
  readonly #ttft: BucketHistogram
  readonly #tenantTtft: Histogram<'tenant'>
  /** Those with series of their own; the one that was seen last is the last one. */
  readonly #tenants = new Set<string>()
  readonly #itl: BucketHistogram
  readonly #e2e: BucketHistogram
  readonly #branches: BucketHistogram
  readonly #promptTokens: Counter
  readonly #cacheQueries: Counter
  readonly #cacheHits: Counter
  readonly #headDrafted: Counter<'head'>
  readonly #headAccepted: Counter<'head'>
  readonly #ended: Counter<'finished_reason'>
  readonly #refused: Counter<'code'>

  constructor(runner: Pick<Runner, 'model' | 'engineInfo' | 'stats'>) {
    const { dtype, kvCacheDtype, numBlocks } = runner.engineInfo
    const device = shortDevice(runner.engineInfo.device)
    const registers = [this.registry]
    this.registry.setDefaultLabels({ model_name: runner.model })
    collectDefaultMetrics({ register: this.registry })
    for (const { name, help, value } of engineMetrics(numBlocks)) {
      const options = { name: `apar_${name}`, help, registers }
      if (name.endsWith('_total')) {
        const counter: Counter = new Counter({
          ...options,
          collect: () => {
            counter.reset()
            counter.inc(value(runner.stats()))
          },
        })
      } else {
        const gauge: Gauge = new Gauge({ ...options, collect: () => gauge.set(value(runner.stats())) })
      }
    }
    for (const { name, help, value } of DRAFT_METRICS) {
      const counter = new Counter({
        ...{ name: `apar_${name}`, help, labelNames: ['source'], registers },
        collect: () => {
          counter.reset()
          for (const [source, tokens] of Object.entries(value(runner.stats())))
            counter.inc({ source }, tokens)
        },
      })
    }
    const counter = (name: string, help: string) => new Counter({ name: `apar_${name}`, help, registers })
    const histogram = (name: string, help: string, buckets: readonly number[]) =>
      new BucketHistogram({ name: `apar_${name}`, help, buckets, registers })
    this.#promptTokens = counter('prompt_tokens_total', 'Prompt tokens of requests that have ended.')
    this.#cacheQueries = counter('prefix_cache_queries_total', 'Prompt tokens looked up in the prefix cache.')
    this.#cacheHits = counter('prefix_cache_hits_total', 'Prompt tokens found in the prefix cache.')
    this.#ttft = histogram(
      'time_to_first_token_seconds',
      'From the arrival of a request to its first token.',
      TTFT_SECONDS,
    )
    this.#tenantTtft = new Histogram({
      name: 'apar_tenant_time_to_first_token_seconds',
      help: `As apar_time_to_first_token_seconds, of the ${MAX_TENANTS} tenants that had one last.`,
      buckets: TENANT_TTFT_SECONDS,
      labelNames: ['tenant'],
      registers,
    })
    this.#itl = histogram(
      'inter_token_latency_seconds',
      'Between two tokens of the same branch.',
      ITL_SECONDS,
    )
    this.#e2e = histogram(
      'e2e_request_latency_seconds',
      'From the arrival of a request to its end.',
      E2E_SECONDS,
    )
    this.#branches = histogram('request_branches', 'Branches of a request, the root included.', BRANCHES)
    const ofHead = (name: string, help: string) =>
      new Counter({ name: `apar_${name}`, help, labelNames: ['head'], registers })
    this.#headDrafted = ofHead(
      'head_drafted_tokens_total',
      'Tokens that a Medusa head drafted for requests that have ended.',
    )
    this.#headAccepted = ofHead('head_accepted_tokens_total', 'Those of them that became tokens of answers.')
    this.#ended = new Counter({
      name: 'apar_request_success_total',
      help: 'Requests that have ended, by reason.',
      labelNames: ['finished_reason'],
      registers,
    })
    this.#refused = new Counter({
      name: 'apar_requests_refused_total',
      help: 'Requests refused before they started, by error code.',
      labelNames: ['code'],
      registers,
    })
    new Gauge({
      name: 'apar_engine_info',
      help: 'Always 1; the labels describe the engine.',
      labelNames: ['device', 'dtype', 'kv_cache_dtype', 'num_blocks'],
      registers,
    }).set({ device, dtype, kv_cache_dtype: kvCacheDtype, num_blocks: String(numBlocks) }, 1)
    for (const finished_reason of ['stop', 'length', 'abort', 'error'])
      this.#ended.inc({ finished_reason }, 0)
  }

  timeToFirstToken(ms: number, tenant = NO_TENANT): void {
    this.#ttft.add(ms / 1000)
    this.#tenants.delete(tenant)
    this.#tenants.add(tenant)
    const [oldest] = this.#tenants
    if (this.#tenants.size > MAX_TENANTS && oldest !== undefined) {
      this.#tenants.delete(oldest)
      this.#tenantTtft.remove({ tenant: oldest })
    }
    this.#tenantTtft.observe({ tenant }, ms / 1000)
  }

  interTokenLatency(ms: number, tokens: number): void {
    this.#itl.add(ms / 1000, tokens)
  }

  ended(record: RequestRecord): void {
    const { arrivedAt, endedAt, promptTokens, cachedPromptTokens } = record
    this.#e2e.add((endedAt - arrivedAt) / 1000)
    this.#branches.add(record.branches)
    this.#promptTokens.inc(promptTokens)
    this.#cacheQueries.inc(promptTokens)
    this.#cacheHits.inc(cachedPromptTokens)
    for (const [head, { drafted, accepted }] of (record.speculation?.heads ?? []).entries()) {
      this.#headDrafted.inc({ head }, drafted)
      this.#headAccepted.inc({ head }, accepted)
    }
    this.#ended.inc({ finished_reason: record.outcome })
  }

  refused(code: ErrorCode): void {
    this.#refused.inc({ code })
  }
}
