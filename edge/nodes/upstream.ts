import { AparError, toAparError } from '../../shared/errors.ts'
import { CLOSE_SERVICE_RESTART } from '../../shared/protocol/close-codes.ts'
import type { ErrorEvent } from '../../shared/protocol/events.ts'
import type { CallContext, NodeFrame } from '../../shared/protocol/node.ts'
import { parseBatch } from '../../shared/protocol/parse-batch.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { StreamLog } from '../../shared/protocol/stream-log.ts'
import type { NodeAddress, NodeSocket } from './node-socket.ts'
import { sleep } from './sleep.ts'

/** Attempts in a row, none of which brought an event, before a stream is given up. */
const MAX_FAILURES = 5
/** Nodes that a stream may see go. A request that brings them down would else take the whole fleet. */
const MAX_MOVES = 6
const FIRST_BACKOFF_MS = 100

/** The gpu nodes, as a stream sees them. */
export interface Nodes {
  /** A node for the request, none of `exclude`. @throws AparError to be shown to the client. */
  pick(request: GenerateRequest, exclude: readonly string[]): Promise<NodeAddress>
  /** @throws Error when the node cannot be reached; nothing was started then. */
  connect(node: NodeAddress): Promise<NodeSocket>
  isAlive(id: string): Promise<boolean>
  /** Whoever chooses nodes should know. */
  reportFailure(id: string): void
}

export interface UpstreamOptions {
  readonly stream: string
  readonly callContext?: CallContext | undefined
  /** Gets a seed if it has none: the same on every node that the stream may move to. */
  readonly request: GenerateRequest
  /** Grows with what the nodes send. */
  readonly log: StreamLog
  readonly nodes: Nodes
  /** The stream runs on this node now. `request` has its seed. */
  readonly onNode: (request: GenerateRequest, node: NodeAddress) => void
  /** The log has grown. */
  readonly onBatch: () => void
  readonly onLost: (error: AparError) => void
  readonly reportError: (error: unknown) => void
  /** A node silent for this long is looked up in the fleet. Default 15 s, the length of a lease. */
  readonly silenceMs?: number | undefined
}

/** How one connection to a node ended before the stream did. */
interface Broken {
  readonly retry: 'attach' | 'move'
  readonly why: unknown
  /** The node is well, it only does not take the stream, or has not got it. */
  readonly nodeIsWell?: boolean
  /** What it said, if a client that nobody else takes should hear it. */
  readonly refusal?: AparError
}

const MAX_REMEMBERED_CANCELS = 1024

/**
 * A stream's way to the gpu nodes: starts it on one, attaches again when the connection is lost, and moves it with its log
 * to another one when the node is.
 */
export class Upstream {
  readonly #options: UpstreamOptions
  /** Said again to every node, by the frame's text: the one that heard it may be lost. */
  readonly #cancels = new Map<string, NodeFrame>()
  #socket: NodeSocket | undefined
  #closed = false

  constructor(options: UpstreamOptions) {
    const { request } = options
    this.#options = { ...options, request: { ...request, seed: request.seed ?? randomSeed() } }
  }

  /** Runs until the log has ended. `node`: where the stream is already, for a session that lost its memory. */
  async run(node?: NodeAddress): Promise<void> {
    try {
      await this.#follow(node)
    } catch (error) {
      if (!this.#closed) this.#options.onLost(toAparError(error))
    }
  }

  /** `cancel` or `cancel_branch`. */
  cancel(frame: NodeFrame): void {
    // A client may send any number; what is left out was said to the node of now.
    if (this.#cancels.size < MAX_REMEMBERED_CANCELS || frame.type === 'cancel')
      this.#cancels.set(JSON.stringify(frame), frame)
    this.#trySend(frame)
  }

  /** Nobody needs the stream any more: what runs is cancelled, the node may forget it. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#socket) this.#sayGoodbye(this.#socket)
  }

  #sayGoodbye(socket: NodeSocket): void {
    // Where the log ended in an error the node may still have something to say: nobody will ask for it.
    if (this.#options.log.last?.type !== 'done') trySend(socket, { type: 'cancel' })
    trySend(socket, { type: 'ack', seq: Number.MAX_SAFE_INTEGER })
    socket.close()
  }

  async #follow(known: NodeAddress | undefined): Promise<void> {
    const { log, nodes, request, reportError } = this.#options
    const exclude: string[] = []
    let node = known
    let refusal: AparError | undefined
    let moves = 0
    for (let failures = 0; ; ) {
      const before = log.nextSeq
      const attach = node !== undefined
      let broken: Broken
      try {
        node ??= await nodes.pick(request, exclude)
        broken = await this.#read(node, attach)
      } catch (why) {
        // Nobody has seen anything yet: the reason itself is the best answer.
        if (!node && log.nextSeq === 0) throw refusal ?? why
        broken = { retry: 'move', why }
      }
      if (this.#over) return
      reportError(broken.why)
      refusal = broken.refusal ?? refusal
      const advanced = log.nextSeq > before
      failures = advanced ? 1 : failures + 1
      if (broken.retry === 'move') moves++
      const forgotten = known !== undefined && log.nextSeq === 0 && broken.retry === 'move'
      if (forgotten) throw lost()
      if (failures > MAX_FAILURES || moves > MAX_MOVES) throw log.nextSeq === 0 && refusal ? refusal : lost()
      // With nobody left to ask, those that failed are asked again: they may be back.
      if (!node || advanced) exclude.length = 0
      if (node && broken.retry === 'move') {
        if (!broken.nodeIsWell) nodes.reportFailure(node.id)
        exclude.push(node.id)
        node = undefined
      }
      if (failures > 1) await sleep(FIRST_BACKOFF_MS * 2 ** (failures - 2))
      // A node that has the stream would go on with it until its own patience ends.
      if (this.#over && node) await this.#read(node, true)
      if (this.#over) return
    }
  }

  /** Reads one connection to its end. @throws Error when there was none. */
  async #read(node: NodeAddress, attach: boolean): Promise<Broken> {
    const { stream, callContext, request, log, nodes } = this.#options
    const socket = await nodes.connect(node)
    const attachFrame: NodeFrame = { type: 'attach', stream, after: log.nextSeq - 1 }
    if (this.#over) {
      if (attach) {
        trySend(socket, attachFrame)
        this.#sayGoodbye(socket)
      } else {
        socket.close()
      }
      return { retry: 'move', why: 'closed' }
    }
    this.#socket = socket
    let watch: ReturnType<typeof setInterval> | null = null
    try {
      return await new Promise<Broken>((resolve) => {
        let heard = true
        socket.listen(
          (text) => {
            // What was under way when it was given up, the next one says again.
            if (this.#socket !== socket) return
            heard = true
            try {
              const broken = this.#take(text)
              if (broken) resolve(broken)
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
        // A machine that vanishes closes no socket, but it misses its heart-beats.
        watch = setInterval(async () => {
          if (!heard && !(await nodes.isAlive(node.id).catch(() => true)))
            resolve({ retry: 'move', why: `the lease of gpu node ${node.id} ended in silence` })
          heard = false
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
      if (!this.#over) {
        this.#socket = undefined
        socket.close()
      }
    }
  }

  /** Puts a node's frame into the log. What it returns, or throws, is why the stream cannot go on here. */
  #take(text: string): Broken | undefined {
    if (this.#over) return undefined
    const { log, onBatch } = this.#options
    const batch = parseBatch(text)
    const last = batch.events.at(-1)
    const elsewhere = last?.type === 'error' ? ELSEWHERE[last.code] : undefined
    // What came with such an error, the next node says again.
    if (last?.type === 'error' && elsewhere) {
      const why = `${last.code}: ${last.message}`
      // That a node has no such stream means nothing to somebody who asked for a new one.
      const refusal = last.code === 'stream_not_found' ? {} : { refusal: toError(last) }
      return elsewhere === 'well'
        ? { retry: 'move', why, nodeIsWell: true, ...refusal }
        : { retry: 'move', why }
    }
    log.append(batch)
    onBatch()
    return log.ended ? { retry: 'move', why: 'the stream has ended' } : undefined
  }

  get #over(): boolean {
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
    // The node is gone; its close event is under way.
  }
}

/** Errors of a node that another node may not have, and what they say of this one. */
const ELSEWHERE: Partial<Record<ErrorEvent['code'], 'well' | 'broken'>> = {
  overloaded: 'well',
  stream_not_found: 'well',
  engine_error: 'broken',
  gpu_node_lost: 'broken',
}

function toError({ code, message, param }: ErrorEvent): AparError {
  return new AparError(code, message, { param: param ?? undefined })
}

function lost(): AparError {
  return new AparError('gpu_node_lost', 'the gpu node was lost, and no other could go on with the stream')
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0
}
