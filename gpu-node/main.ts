import { randomUUID } from 'node:crypto'
import { isIPv6 } from 'node:net'
import type { Logger } from '../shared/log.ts'
import type { Heartbeat } from '../shared/protocol/fleet.ts'
import type { CheckpointOptions } from './checkpoint/checkpoint.ts'
import { DialIn } from './edge-link/dial-in.ts'
import type { EdgeLink } from './edge-link/edge-link.ts'
import { Registration } from './edge-link/registration.ts'
import { loadingLog } from './engine/loading-log.ts'
import { describeMemory, type MemoryPlan } from './engine/memory-plan.ts'
import type { EngineOptions } from './engine-options.ts'
import { nodeLog } from './log.ts'
import { NodeMetrics } from './observe/node-metrics.ts'
import { RequestLog } from './observe/request-log.ts'
import { openTracing, type Tracing } from './observe/tracing.ts'
import { openRunner } from './open-runner.ts'
import { type RequestSocket, serveRequest } from './requests/request-socket.ts'
import type { Runner } from './requests/runner.ts'
import { ServedStreams } from './requests/served-streams.ts'
import { type GpuNodeServer, startServer } from './server.ts'

export interface GpuNodeOptions extends EngineOptions, CheckpointOptions {
  /** A folder with a checkpoint, or a GGUF file. */
  modelDir: string
  /** What clients call the model. Default: the folder's name, followed by `+` and the adapter's. */
  modelName?: string | undefined
  /** Where to listen. Default 127.0.0.1. */
  host?: string | undefined
  /** 0 (default) takes any free port. */
  port?: number | undefined
  /**
   * The edge to register with, or its promise: the model loads meanwhile. Without one the node accepts connections and
   * registers nowhere.
   */
  edgeUrl?: string | Promise<string> | undefined
  /** Shared with the edge, in both directions. */
  nodeSecret: string
  /** Bearer token for `/metrics`. Default: the node secret. */
  metricsSecret?: string | undefined
  /** Opens one socket to the edge instead of accepting connections from it: for a node that the edge cannot reach. */
  dialIn?: boolean | undefined
  /** Address that the edge connects to. Default: `ws://host:port` of the listening socket. */
  advertiseUrl?: string | undefined
  /**
   * Requests may say what is answered, whatever the model says, so that published answers can be measured
   * (docs/adr/0071). Default false.
   */
  allowReplay?: boolean | undefined
  /** How long a stream keeps running while no socket reads it, in ms. Default 30 s. */
  graceMs?: number | undefined
  /** Default: {@link nodeLog}. */
  log?: Logger | undefined
}

export interface GpuNode {
  /** `ws://host:port`. */
  readonly url: string
  readonly model: string
  readonly runner: Runner
  /** Settles when the node is registered; at once without an edge. */
  readonly registered: Promise<void>
  /** Settles with the reason when the engine has failed; the node must then be restarted. */
  readonly failed: Promise<string>
  /**
   * Takes no new streams and waits until the running ones have ended, at most `deadlineMs`. The edge moves those
   * that still run to other nodes when this node is closed.
   */
  drain(deadlineMs: number): Promise<void>
  /** Ends the registration, aborts running streams, frees the engine. A second call waits for the first. */
  close(): Promise<void>
}

/** Opens the engine, listens, registers. @throws StartupError with a one-line message for the operator. */
export async function startGpuNode(options: GpuNodeOptions): Promise<GpuNode> {
  const log = options.log ?? nodeLog()
  const onLoading = loadingLog((line) => log.info(line))
  const onPlan = (plan: MemoryPlan) => {
    const { message, fields } = describeMemory(plan)
    if (plan.contextTokens < plan.modelContextTokens) log.warn(message, fields)
    else log.info(message, fields)
  }
  const onWarning = (warning: string) => log.warn(warning)
  if (options.allowReplay)
    onWarning('whoever has the node secret can write answers of the model (--allow-replay)')
  const name = options.modelName
  const onNote = (note: string) => log.info(note)
  const runner = await openRunner(options.modelDir, {
    ...options,
    name,
    onWarning,
    onNote,
    onPlan,
    onLoading,
  })
  return await serveRunner(runner, { ...options, log })
}

/**
 * Starts a gpu node with an open runner. The node owns the runner: it closes it at the end, or when it cannot
 * listen.
 */
export async function serveRunner(
  runner: Runner,
  options: Omit<GpuNodeOptions, 'modelDir' | 'modelName' | keyof EngineOptions | keyof CheckpointOptions>,
): Promise<GpuNode> {
  const log = options.log ?? nodeLog()
  const streams = new ServedStreams(runner, options.graceMs)
  const metrics = new NodeMetrics(runner)
  runner.observe(metrics)
  runner.observe(new RequestLog(log))
  let server: GpuNodeServer
  let tracing: Tracing | undefined
  let edge: EdgeLink | undefined
  let edgeUrl: string | undefined
  try {
    const { host = '127.0.0.1', port = 0, nodeSecret, metricsSecret } = options
    edgeUrl = await options.edgeUrl
    tracing = await openTracing(runner.model, log)
    if (tracing) runner.observe(tracing.observer)
    const registered = () => edgeUrl === undefined || (edge?.holdsLease ?? false)
    server = await startServer({
      runner,
      streams,
      registered,
      metrics,
      log,
      host,
      port,
      nodeSecret,
      metricsSecret,
    })
  } catch (error) {
    await tracing?.close()
    await runner.close()
    throw error
  }
  const url =
    options.advertiseUrl ?? `ws://${isIPv6(server.host) ? `[${server.host}]` : server.host}:${server.port}`
  const { device, dtype, kvCacheDtype, numBlocks } = runner.engineInfo
  const kv = { kv_cache_dtype: kvCacheDtype, kv_blocks: numBlocks }
  log.info('listening', { url, model: runner.model, device, dtype, ...kv })
  edge = linkToEdge({ ...options, edgeUrl }, url, runner, streams, log)
  let closing: Promise<void> | undefined
  const close = async () => {
    await edge?.stop()
    // Before the engine aborts: the edge must see a node shutting down and move the streams, not aborted answers.
    streams.disconnectAll('the gpu node was shut down')
    await runner.close()
    await server.close()
    await tracing?.close()
  }
  return {
    url,
    model: runner.model,
    runner,
    registered: edge?.registered ?? Promise.resolve(),
    failed: runner.failed,
    drain: async (deadlineMs) => {
      const drained = streams.drain(deadlineMs)
      await edge?.sendHeartbeat()
      await drained
    },
    close: () => {
      closing ??= close()
      return closing
    },
  }
}

function linkToEdge(
  {
    edgeUrl,
    nodeSecret,
    dialIn,
  }: Pick<GpuNodeOptions, 'nodeSecret' | 'dialIn'> & { edgeUrl: string | undefined },
  url: string,
  runner: Runner,
  streams: ServedStreams,
  log: Logger,
): EdgeLink | undefined {
  if (edgeUrl === undefined) return undefined
  const nodeId = randomUUID()
  const status = () => statusOf(runner, streams.draining)
  if (!dialIn) {
    return new Registration({
      edgeUrl,
      nodeId,
      nodeSecret,
      heartbeat: () => ({ url, ...status() }),
      log,
    })
  }
  const serve = (channel: RequestSocket) => serveRequest(channel, streams, log)
  return new DialIn({ edgeUrl, nodeId, nodeSecret, heartbeat: status, serve, log })
}

/** A heartbeat without the node's address. */
function statusOf(runner: Runner, draining: boolean): Heartbeat {
  const { checkpoint, engineInfo } = runner
  const stats = runner.stats()
  const model = {
    id: runner.model,
    created: checkpoint.created,
    context_tokens: runner.contextTokens,
    fingerprint: runner.fingerprint,
  }
  return {
    models: [model],
    draining,
    capacity: {
      branches: runner.maxBranches,
      blocks: engineInfo.numBlocks,
      start_fields: [
        ...['tenant', 'stop_scope', 'speculation', 'prompt_options', 'query', 'trace', 'tool_messages'],
        ...['dry', 'separate_reasoning', 'return_prompt_token_ids'],
        ...(runner.servesFormats ? ['output_format', 'tools', 'parallel_format'] : []),
      ],
    },
    load: {
      running: stats.runningRequests,
      waiting: stats.waitingRequests,
      free_blocks: stats.freeBlocks,
    },
  }
}
