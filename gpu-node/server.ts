import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { AparError, toAparError } from '../shared/errors.ts'
import type { Logger } from '../shared/log.ts'
import { CLOSE_GOING_AWAY } from '../shared/protocol/close-codes.ts'
import { type Health, type HealthSources, health, readiness } from './health.ts'
import type { NodeMetrics } from './observe/node-metrics.ts'
import { MAX_FRAME_BYTES, serveRequest } from './requests/request-socket.ts'
import type { ServedStreams } from './requests/served-streams.ts'
import { StartupError } from './startup-error.ts'

const CLOSE_GRACE_MS = 1_000

/** Requests are small here. Larger headers get status 431, slower requests 408, and the connection is closed. */
const HTTP_LIMITS = { maxHeaderSize: 16 * 1024, headersTimeout: 10_000, requestTimeout: 10_000 }

/** Answers are current values, and not HTML. */
const ANSWER_HEADERS = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }

export interface GpuNodeServerOptions extends HealthSources {
  streams: ServedStreams
  metrics: NodeMetrics
  log: Logger
  host: string
  /** 0 takes any free port. */
  port: number
  nodeSecret: string
  /** Valid for `/metrics` only. Default: the node secret. */
  metricsSecret?: string | undefined
}

export interface GpuNodeServer {
  readonly host: string
  readonly port: number
  /** Stops listening and closes all sockets; sockets that have not closed after a grace time are terminated. */
  close(): Promise<void>
}

/**
 * Serves `GET /healthz`, `/readyz` and `/metrics`, and WebSockets on `/v1/requests`, which need the node secret
 * as bearer token.
 * @throws StartupError `port_taken` or `invalid_option` when it cannot listen.
 */
export async function startServer(options: GpuNodeServerOptions): Promise<GpuNodeServer> {
  const { streams, log, nodeSecret } = options
  const http = createServer(HTTP_LIMITS, (request, response) => {
    void answer(request, options)
      .catch((thrown) => toErrorAnswer(thrown, log))
      .then(({ status, type, body }) => {
        response.writeHead(status, { 'content-type': type, ...ANSWER_HEADERS })
        response.end(request.method === 'HEAD' ? undefined : body)
      })
  })
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_FRAME_BYTES })
  http.on('upgrade', (request, socket, head) => {
    const error = refusal(request, nodeSecret)
    if (error) return refuse(socket, error)
    sockets.handleUpgrade(request, socket, head, (accepted) => serveRequest(accepted, streams, log))
  })
  await listen(http, options.host, options.port)
  const { address, port } = http.address() as AddressInfo
  return { host: address, port, close: () => close(http, sockets) }
}

async function answer(request: IncomingMessage, options: GpuNodeServerOptions): Promise<Answer> {
  const path = pathOf(request)
  const respond = ROUTES[path]
  if (!respond) throw new AparError('not_found', `no such path: ${path}`)
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    throw new AparError('method_not_allowed', `${path} accepts only GET`)
  }
  return await respond(options, request)
}

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

const ROUTES: Record<string, (options: GpuNodeServerOptions, request: IncomingMessage) => Promise<Answer>> = {
  '/healthz': async (inspected) => toAnswer(health(inspected)),
  '/readyz': async (inspected) => toAnswer(readiness(inspected)),
  '/metrics': async ({ metrics, metricsSecret, nodeSecret }, request) => {
    if (!sameSecret(bearerOf(request), metricsSecret ?? nodeSecret)) {
      throw new AparError('invalid_node_secret', 'the metrics secret is not valid')
    }
    return { status: 200, type: metrics.registry.contentType, body: await metrics.registry.metrics() }
  },
}

const JSON_TYPE = 'application/json; charset=utf-8'

function toAnswer({ healthy, body }: Health): Answer {
  return { status: healthy ? 200 : 503, type: JSON_TYPE, body: JSON.stringify(body) }
}

function toErrorAnswer(thrown: unknown, log: Logger): Answer {
  const error = toAparError(thrown)
  if (error.code === 'internal_error') log.error('a bug ended an answer', {}, thrown)
  return { status: error.status, type: JSON_TYPE, body: JSON.stringify(error.toBody()) }
}

function refusal(request: IncomingMessage, nodeSecret: string): AparError | undefined {
  if (!sameSecret(bearerOf(request), nodeSecret))
    return new AparError('invalid_node_secret', 'the node secret is not valid')
  const path = pathOf(request)
  if (path !== '/v1/requests') return new AparError('not_found', `there is no WebSocket at ${path}`)
  return undefined
}

function bearerOf(request: IncomingMessage): string {
  return /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? ''
}

/**
 * Compares digests, which have equal length as timingSafeEqual needs, so that timing reveals nothing about the
 * secret.
 */
function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

function refuse(socket: Duplex, error: AparError): void {
  const body = JSON.stringify(error.toBody())
  socket.on('error', () => {})
  // After an upgrade the HTTP server no longer manages this socket: without destroy it would stay half-open forever.
  socket.once('finish', () => socket.destroy())
  socket.end(
    [
      `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
      'content-type: application/json; charset=utf-8',
      `content-length: ${Buffer.byteLength(body)}`,
      'connection: close',
      '',
      body,
    ].join('\r\n'),
  )
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').split('?', 1)[0] ?? '/'
}

function listen(http: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    http.once('error', (error) => {
      const taken = 'code' in error && error.code === 'EADDRINUSE'
      const reason = taken ? 'is in use' : `cannot be opened (${error.message})`
      reject(
        new StartupError(taken ? 'port_taken' : 'invalid_option', `port ${port} on ${host} ${reason}`, error),
      )
    })
    http.listen(port, host, resolve)
  })
}

async function close(http: Server, sockets: WebSocketServer): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    http.close(() => resolve())
  })
  http.closeIdleConnections()
  for (const socket of sockets.clients) socket.close(CLOSE_GOING_AWAY, 'the gpu node was shut down')
  // Time to deliver the last events; after it, clients that do not read are disconnected.
  const cut = setTimeout(() => {
    for (const socket of sockets.clients) socket.terminate()
    http.closeAllConnections()
  }, CLOSE_GRACE_MS)
  await closed
  clearTimeout(cut)
}
