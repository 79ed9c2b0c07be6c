import { AparError, toAparError } from '../../shared/errors.ts'
import { CLOSE_SERVICE_RESTART } from '../../shared/protocol/close-codes.ts'
import type { ErrorEvent } from '../../shared/protocol/events.ts'
import { errorOf } from '../../shared/protocol/events.ts'
import type { CallContext, NodeFrame } from '../../shared/protocol/node.ts'
import { parseBatch } from '../../shared/protocol/parse-batch.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { StreamLog } from '../../shared/stream-log.ts'
import type { Nodes } from '../nodes/fleet-nodes.ts'
import type { NodeAddress, NodeSocket } from '../nodes/node-socket.ts'
import { sleep } from './sleep.ts'

/** Attempts in a row without an event before the stream fails. */
const MAX_FAILURES = 5
/**
 * Moves of one stream to another node. Without this bound, a request that crashes nodes could crash the whole fleet.
 */
const MAX_MOVES = 6
const FIRST_BACKOFF_MS = 100

export interface UpstreamOptions {
  readonly stream: string
  readonly callContext?: CallContext | undefined
  /** Gets a random seed if it has none, so that every node that the stream moves to has the same one. */
  readonly request: GenerateRequest
  /** The batches that the nodes send are appended to it. */
  readonly log: StreamLog
  readonly nodes: Nodes
  /** The stream was started on this node. `request` has its seed. */
  readonly onNode: (request: GenerateRequest, node: NodeAddress) => void
  /** A batch was appended to the log. */
  readonly onBatch: () => void
  /** The stream failed: no node can continue it. */
  readonly onLost: (error: AparError) => void
  readonly reportError: (error: unknown) => void
  /** When a node has sent nothing for this long, its lease is checked. Default 15 s, the length of a lease. */
  readonly silenceMs?: number | undefined
}

/** How one connection to a node ended before the stream did. */
interface ConnectionEnd {
  /** `start`: again on the same node, with the request as it is now. */
  readonly retry: 'attach' | 'move' | 'start'
  readonly why: unknown
  /** The node refused the stream, or does not have it, which is no failure of the node. */
  readonly nodeIsHealthy?: boolean
  /** The node's error, to be sent to the client if no other node accepts the request. */
  readonly refusal?: AparError
}

const MAX_REMEMBERED_CANCELS = 1024

/**
 * Runs a stream on the gpu nodes: starts it on one, attaches again when the connection is lost, and moves the stream
 * with its log to another node when the node is lost.
 */
export class Upstream {
  #options: UpstreamOptions
  /** The cancel frames so far, by their text. They are sent again to each node that the stream moves to. */
  readonly #cancels = new Map<string, NodeFrame>()
  #socket: NodeSocket | undefined
  #closed = false

  constructor(options: UpstreamOptions) {
    const { request } = options
    this.#options = { ...options, request: { ...request, seed: request.seed ?? randomSeed() } }
  }

  /** Runs until the log has ended. `node`: has the stream already, for a session that has lost its memory. */
  async run(node?: NodeAddress): Promise<void> {
    try {
      await this.#runOnNodes(node)
    } catch (error) {
      if (!this.#closed) this.#options.onLost(toAparError(error))
    }
  }

  /** `cancel` or `cancel_branch`. */
  cancel(frame: NodeFrame): void {
    // A client may send any number of frames. One that is not remembered is still sent to the current node.
    if (this.#cancels.size < MAX_REMEMBERED_CANCELS || frame.type === 'cancel')
      this.#cancels.set(JSON.stringify(frame), frame)
    this.#trySend(frame)
  }

  /** The stream is not needed any more: cancels it if it runs, and lets the node delete its log. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#socket) this.#release(this.#socket)
  }

  #release(socket: NodeSocket): void {
    // If the log ended in an error, the stream may still run on the node.
    if (this.#options.log.last?.type !== 'done') trySend(socket, { type: 'cancel' })
    trySend(socket, { type: 'ack', seq: Number.MAX_SAFE_INTEGER })
    socket.close()
  }

  async #runOnNodes(known: NodeAddress | undefined): Promise<void> {
    const { log, nodes, reportError } = this.#options
    const exclude: string[] = []
    let node = known
    let started = known !== undefined
    let refusal: AparError | undefined
    let moves = 0
    for (let failures = 0; ; ) {
      const before = log.nextSeq
      let end: ConnectionEnd
      try {
        node ??= await nodes.pick(this.#options.request, exclude)
        end = await this.#runOnNode(node, started)
      } catch (why) {
        // The client has got no event yet, so the reason itself is its answer.
        if (!node && log.nextSeq === 0) throw refusal ?? why
        end = { retry: 'move', why }
      }
      if (this.#finished) return
      started = end.retry === 'attach'
      if (end.retry === 'start') continue
      reportError(end.why)
      refusal = end.refusal ?? refusal
      const advanced = log.nextSeq > before
      failures = advanced ? 1 : failures + 1
      if (end.retry === 'move') moves++
      const logLost = known !== undefined && log.nextSeq === 0 && end.retry === 'move'
      if (logLost) throw lost()
      if (failures > MAX_FAILURES || moves > MAX_MOVES) throw log.nextSeq === 0 && refusal ? refusal : lost()
      // When no node is left to try, or the stream has advanced, nodes that failed before may be tried again.
      if (!node || advanced) exclude.length = 0
      if (node && end.retry === 'move') {
        if (!end.nodeIsHealthy) nodes.reportFailure(node.id)
        exclude.push(node.id)
        node = undefined
      }
      if (failures > 1) await sleep(FIRST_BACKOFF_MS * 2 ** (failures - 2))
      // The stream was closed during the pause: attach once more to cancel it, else the node would run it on for its
      // grace time.
      if (this.#finished && node) await this.#runOnNode(node, true)
      if (this.#finished) return
    }
  }

  /** Connects to the node and reads until the connection ends. @throws Error when the node cannot be reached. */
  async #runOnNode(node: NodeAddress, attach: boolean): Promise<ConnectionEnd> {
    const { stream, callContext, request, log, nodes } = this.#options
    const socket = await nodes.connect(node)
    const attachFrame: NodeFrame = { type: 'attach', stream, after: log.nextSeq - 1 }
    if (this.#finished) {
      if (attach) {
        trySend(socket, attachFrame)
        this.#release(socket)
      } else {
        socket.close()
      }
      return { retry: 'move', why: 'closed' }
    }
    this.#socket = socket
    let watch: ReturnType<typeof setInterval> | null = null
    try {
      return await new Promise<ConnectionEnd>((resolve) => {
        let received = true
        socket.listen(
          (text) => {
            // Frames of a connection that was given up: the next connection gets these events again.
            if (this.#socket !== socket) return
            received = true
            try {
              const end = this.#receive(text)
              if (end) resolve(end)
            } catch (why) {
              resolve({ retry: 'move', why })
            }
          },
          (code) =>
            resolve({
              retry: code === CLOSE_SERVICE_RESTART ? 'move' : 'attach',
              why: `the gpu node closed its socket (${code})`,
            }),
        )
        // A machine that crashes closes no socket, but its heartbeats stop.
        watch = setInterval(async () => {
          if (!received && !(await nodes.isAlive(node.id).catch(() => true)))
            resolve({ retry: 'move', why: `the lease of gpu node ${node.id} ended in silence` })
          received = false
        }, this.#options.silenceMs ?? 15_000)
        this.#trySend(
          attach
            ? attachFrame
            : { type: 'start', stream, request, log: log.batchesSince(-1), origin: callContext },
        )
        for (const frame of this.#cancels.values()) this.#trySend(frame)
        if (!attach) this.#options.onNode(request, node)
      })
    } finally {
      clearInterval(watch)
      if (!this.#finished) {
        this.#socket = undefined
        socket.close()
      }
    }
  }

  /** Appends a node's frame to the log. Returns, or throws, why the stream cannot continue on this connection. */
  #receive(text: string): ConnectionEnd | undefined {
    if (this.#finished) return undefined
    const { log, onBatch } = this.#options
    const batch = parseBatch(text)
    const last = batch.events.at(-1)
    if (last?.type === 'error' && this.#dropsField(last)) return { retry: 'start', why: last.message }
    const elsewhere = last?.type === 'error' && last.retry !== false ? ERRORS_THAT_MOVE[last.code] : undefined
    // The batch is dropped: the next node generates its other events again.
    if (last?.type === 'error' && elsewhere) {
      const why = `${last.code}: ${last.message}`
      // `stream_not_found` means nothing to a client that has started a new stream.
      const refusal = last.code === 'stream_not_found' ? {} : { refusal: errorOf(last) }
      return elsewhere === 'healthy'
        ? { retry: 'move', why, nodeIsHealthy: true, ...refusal }
        : { retry: 'move', why }
    }
    log.append(batch)
    onBatch()
    return log.ended ? { retry: 'move', why: 'the stream has ended' } : undefined
  }

  /** A node of an older version does not know `stop_scope`: there a stop string ends its branch only. */
  #dropsField({ code, param }: ErrorEvent): boolean {
    const { stop_scope, ...request } = this.#options.request
    if (code !== 'invalid_request' || param !== 'request.stop_scope' || !stop_scope) return false
    this.#options = { ...this.#options, request }
    return true
  }

  get #finished(): boolean {
    return this.#closed || this.#options.log.ended
  }

  #trySend(frame: NodeFrame): void {
    if (this.#socket) trySend(this.#socket, frame)
  }
}

function trySend(socket: NodeSocket, frame: NodeFrame): void {
  try {
    socket.send(frame)
  } catch {
    // The socket is closed; its close event follows.
  }
}

/** Errors of a node with which the stream moves to another node, and whether they show a fault of this node. */
const ERRORS_THAT_MOVE: Partial<Record<ErrorEvent['code'], 'healthy' | 'faulty'>> = {
  overloaded: 'healthy',
  stream_not_found: 'healthy',
  engine_error: 'faulty',
  gpu_node_lost: 'faulty',
}

function lost(): AparError {
  return new AparError('gpu_node_lost', 'the gpu node was lost, and no other node could continue the stream')
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0
}
