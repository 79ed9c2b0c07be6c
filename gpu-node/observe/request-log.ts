import { ERROR_CODES, type ErrorCode } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { traceIdOf } from '../../shared/protocol/node.ts'
import type { RequestObserver, RequestRecord } from '../requests/request-watch.ts'

/** Logs one line per request when it ends. */
export class RequestLog implements RequestObserver {
  readonly #log: Logger

  constructor(log: Logger) {
    this.#log = log
  }

  ended(record: RequestRecord): void {
    const { stream, callContext, arrivedAt, firstTokenAt, endedAt } = record
    const fields = {
      request_id: callContext?.request_id,
      trace_id: traceIdOf(callContext),
      stream,
      outcome: record.outcome,
      prompt_tokens: record.promptTokens,
      cached_prompt_tokens: record.cachedPromptTokens,
      completion_tokens: record.completionTokens,
      branches: record.branches,
      drafted_tokens: record.speculation?.drafted,
      accepted_tokens: record.speculation?.accepted,
      moved: record.moved || undefined,
      ttft_ms: firstTokenAt === undefined ? undefined : tenths(firstTokenAt - arrivedAt),
      duration_ms: tenths(endedAt - arrivedAt),
    }
    if (record.outcome === 'error') this.#log.warn('request failed', fields)
    else this.#log.info('request', fields)
  }

  refused(code: ErrorCode): void {
    if (ERROR_CODES[code].status !== 500) this.#log.info('request refused', { code })
  }

  bug(stream: string, thrown: unknown): void {
    this.#log.error('a bug ended a request', { stream }, thrown)
  }
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10
}
