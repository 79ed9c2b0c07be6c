import {
  type Context,
  DiagLogLevel,
  diag,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import type { SpanProcessor } from '@opentelemetry/sdk-trace-base'
import type { Logger } from '../../shared/log.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { RequestObserver, RequestRecord } from '../requests/request-watch.ts'
import { StartupError } from '../startup-error.ts'

/** A collector that does not answer must not delay the shutdown of a node. */
const FLUSH_MS = 2_000

export interface Tracing {
  readonly observer: RequestObserver
  /** Exports the remaining spans. */
  close(): Promise<void>
}

/**
 * OpenTelemetry tracing; undefined unless an environment variable names a collector: `OTEL_EXPORTER_OTLP_ENDPOINT` or
 * `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. The SDK itself reads the other variables (sampler, headers, resource, batches).
 * @throws StartupError `invalid_option` for a protocol other than HTTP.
 */
export async function openTracing(
  model: string,
  log: Logger,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Tracing | undefined> {
  if (!isEnabled(env)) return undefined
  const protocol = env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL ?? env.OTEL_EXPORTER_OTLP_PROTOCOL ?? 'http/json'
  if (!protocol.startsWith('http/')) {
    throw new StartupError(
      'invalid_option',
      `OTEL_EXPORTER_OTLP_PROTOCOL: ${protocol} is not supported, use http/json`,
    )
  }
  const warn = (message: string) => log.warn('tracing', { reason: message })
  const ignore = () => {}
  diag.setLogger({ error: warn, warn, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.WARN)
  // Imported lazily: most nodes do not trace.
  const [{ OTLPTraceExporter }, { BatchSpanProcessor }] = await Promise.all([
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/sdk-trace-base'),
  ])
  return await traceTo(new BatchSpanProcessor(new OTLPTraceExporter()), model, env)
}

function isEnabled(env: NodeJS.ProcessEnv): boolean {
  const { OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER = 'otlp' } = env
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT
  return Boolean(endpoint) && OTEL_SDK_DISABLED?.toLowerCase() !== 'true' && OTEL_TRACES_EXPORTER === 'otlp'
}

export async function traceTo(
  processor: SpanProcessor,
  model: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Tracing> {
  const [{ BasicTracerProvider }, { defaultResource, detectResources, envDetector, resourceFromAttributes }] =
    await Promise.all([import('@opentelemetry/sdk-trace-base'), import('@opentelemetry/resources')])
  const { parseTraceParent, TraceState } = await import('@opentelemetry/core')
  const name = resourceFromAttributes({ 'service.name': env.OTEL_SERVICE_NAME ?? 'apar-gpu-node' })
  const provider = new BasicTracerProvider({
    resource: defaultResource()
      .merge(name)
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [processor],
  })
  const parentOf = (callContext: CallContext | undefined): Context => {
    const parent = callContext?.traceparent === undefined ? null : parseTraceParent(callContext.traceparent)
    if (!parent) return ROOT_CONTEXT
    const traceState =
      callContext?.tracestate === undefined ? {} : { traceState: new TraceState(callContext.tracestate) }
    return trace.setSpanContext(ROOT_CONTEXT, { ...parent, ...traceState, isRemote: true })
  }
  const tracer = provider.getTracer('apar')
  return {
    observer: { ended: (record) => writeSpan(tracer, parentOf(record.callContext), model, record) },
    close: async () => {
      const late = new Promise((resolve) => setTimeout(resolve, FLUSH_MS).unref())
      await Promise.race([provider.shutdown().catch(() => {}), late])
    },
  }
}

/** Creates a request's span after the request has ended, from recorded times: tracing costs nothing while it runs. */
function writeSpan(tracer: Tracer, parent: Context, model: string, record: RequestRecord): void {
  const { outcome, firstTokenAt } = record
  const sinceEpoch = Date.now() - performance.now()
  const span = tracer.startSpan(
    `generate ${model}`,
    {
      kind: SpanKind.SERVER,
      startTime: sinceEpoch + record.arrivedAt,
      attributes: {
        'gen_ai.operation.name': 'chat',
        'gen_ai.request.model': model,
        'gen_ai.response.finish_reasons': [outcome],
        'gen_ai.usage.input_tokens': record.promptTokens,
        'gen_ai.usage.output_tokens': record.completionTokens,
        'apar.cached_prompt_tokens': record.cachedPromptTokens,
        'apar.branches': record.branches,
        ...(record.speculation && {
          'apar.drafted_tokens': record.speculation.drafted,
          'apar.accepted_tokens': record.speculation.accepted,
        }),
        'apar.stream': record.stream,
        'apar.moved': record.moved,
        ...(record.callContext && { 'apar.request_id': record.callContext.request_id }),
      },
    },
    parent,
  )
  span.addEvent('queued', sinceEpoch + record.arrivedAt)
  if (firstTokenAt !== undefined) span.addEvent('decode', sinceEpoch + firstTokenAt)
  if (outcome === 'error') span.setStatus({ code: SpanStatusCode.ERROR })
  span.end(sinceEpoch + record.endedAt)
}
