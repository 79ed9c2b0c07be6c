import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { describe, expect, test } from 'vitest'
import { openTracing, traceTo } from '../../gpu-node/observe/tracing.ts'
import type { RequestRecord } from '../../gpu-node/requests/request-watch.ts'
import { silent } from '../support/logs.ts'

const record: RequestRecord = {
  ...{ stream: 's', callContext: undefined, moved: false, outcome: 'stop' },
  ...{ promptTokens: 7, cachedPromptTokens: 0, completionTokens: 9, branches: 3 },
  ...{ arrivedAt: performance.now(), firstTokenAt: undefined, endedAt: performance.now() + 1 },
}

describe('spans', () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }

  test.each([
    ['no collector is configured', {}],
    ['the SDK is switched off', { ...endpoint, OTEL_SDK_DISABLED: 'true' }],
    ['another exporter is selected', { ...endpoint, OTEL_TRACES_EXPORTER: 'none' }],
  ])('are not created when %s', async (_, env) => {
    expect(await openTracing('tiny', silent, env)).toBeUndefined()
  })

  test('are refused for a protocol that is not supported', async () => {
    const env = { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }
    await expect(openTracing('tiny', silent, env)).rejects.toMatchObject({ code: 'invalid_option' })
  })

  test('start a new trace for a client without one, and have the status of a failed request', async () => {
    const exporter = new InMemorySpanExporter()
    const { observer } = await traceTo(new SimpleSpanProcessor(exporter), 'tiny', {})
    observer.ended?.(record)
    const speculation = { drafted: 8, accepted: 6 }
    observer.ended?.({ ...record, outcome: 'error', firstTokenAt: record.arrivedAt, speculation })
    const [well, failed] = exporter.getFinishedSpans()
    expect(well?.parentSpanContext).toBeUndefined()
    expect(well?.attributes).toMatchObject({ 'apar.branches': 3, 'gen_ai.usage.output_tokens': 9 })
    expect(well?.attributes).not.toHaveProperty(['apar.drafted_tokens'])
    expect(failed?.attributes).toMatchObject({ 'apar.drafted_tokens': 8, 'apar.accepted_tokens': 6 })
    expect(well?.events.map(({ name }) => name)).toEqual(['queued'])
    expect(failed?.events.map(({ name }) => name)).toEqual(['queued', 'decode'])
    expect([well?.status.code, failed?.status.code]).toEqual([0, 2])
    expect(failed?.spanContext().traceId).not.toBe(well?.spanContext().traceId)
  })

  test('ignore an invalid traceparent', async () => {
    const exporter = new InMemorySpanExporter()
    const { observer } = await traceTo(new SimpleSpanProcessor(exporter), 'tiny', {})
    observer.ended?.({ ...record, callContext: { request_id: 'r', traceparent: 'hello' } })
    expect(exporter.getFinishedSpans()[0]?.parentSpanContext).toBeUndefined()
  })
})
