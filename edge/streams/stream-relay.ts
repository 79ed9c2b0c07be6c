import { AparError, toAparError } from '../../shared/errors.ts'
import { CLOSE_GOING_AWAY, CLOSE_REPLACED } from '../../shared/protocol/close-codes.ts'
import { errorEvent, type StreamEvent } from '../../shared/protocol/events.ts'
import type { ClientFrame } from '../../shared/protocol/frames.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { StreamLog } from '../../shared/protocol/stream-log.ts'
import type { NodeAddress } from '../nodes/node-socket.ts'
import { type Nodes, Upstream } from '../nodes/upstream.ts'
import { ClientLink } from './client-link.ts'

export interface RelayOptions {
  readonly stream: string
  readonly callContext?: CallContext | undefined
  readonly nodes: Nodes
  /** Takes the request's place in its key's limits. @throws AparError to be shown to the client. */
  readonly admit?: ((request: GenerateRequest) => Promise<Admitted>) | undefined
  /** The stream was begun on this node, or has moved there. */
  readonly onNode: (request: GenerateRequest, node: NodeAddress) => void
  /** The stream is over for everybody. */
  readonly onOver: () => void
  readonly log: (error: unknown) => void
  /** How long the stream goes on for a client that was lost. Default 30 s. */
  readonly graceMs?: number | undefined
  /** How long a client may take to send `generate`. Default 10 s. */
  readonly generateTimeoutMs?: number | undefined
  readonly silenceMs?: number | undefined
  readonly keepAliveMs?: number | undefined
  readonly stallMs?: number | undefined
}

export interface Admitted {
  /** As they may run. */
  readonly requests: readonly GenerateRequest[]
  observe(event: StreamEvent): void
  settle(): Promise<void>
}

export interface ClientOptions {
  /** The client has everything up to this event. */
  readonly after: number
  readonly acks: boolean
  /** It closes the socket itself when everything has arrived. */
  readonly relayed?: boolean | undefined
}

/** One stream between its client, who may come and go, and the gpu nodes. Its log is all that both sides share. */
export class StreamRelay {
  readonly #options: RelayOptions
  readonly #log = new StreamLog()
  #upstream: Upstream | undefined
  #admitted: Admitted | undefined
  /** Of the log, what was counted. */
  #observed = 0
  #started = false
  /** A cancel came before the request was admitted; of branches there are none yet. */
  #cancelledEarly = false
  #client: ClientLink | undefined
  #generateTimer: ReturnType<typeof setTimeout> | null = null
  #graceTimer: ReturnType<typeof setTimeout> | null = null
  #over = false

  constructor(options: RelayOptions) {
    this.#options = options
  }

  /** For a session that has lost its memory: reads the stream's log again from the node that has it. */
  recover(request: GenerateRequest, node: NodeAddress): void {
    void this.#start(request, node)
  }

  /** Serves a client's socket, which was accepted. A client that is there already gives way. */
  connect(socket: WebSocket, { after, acks, relayed }: ClientOptions): void {
    this.#client?.close(CLOSE_REPLACED, 'another connection reads this stream')
    clearTimeout(this.#graceTimer)
    this.#graceTimer = null
    const client: ClientLink = new ClientLink(socket, this.#log, {
      after,
      acks,
      relayed,
      onFrame: (frame) => this.#onFrame(frame),
      onBadFrame: (error) => this.#fail(error),
      onGone: (left) => {
        if (this.#client === client) this.#onClientGone(left)
      },
      keepAliveMs: this.#options.keepAliveMs,
      stallMs: this.#options.stallMs,
    })
    this.#client = client
    if (this.#started) {
      client.offer()
      return
    }
    const timeoutMs = this.#options.generateTimeoutMs ?? 10_000
    this.#generateTimer = setTimeout(() => {
      this.#fail(new AparError('invalid_request', `no generate frame within ${timeoutMs} ms`))
    }, timeoutMs)
  }

  /**
   * Ends the stream, whoever reads it. What was generated stands: a client that is away may come back for that within its
   * grace time.
   */
  cancel(): void {
    this.#cancel({ type: 'cancel' })
    // A session that was woken up for this has never had a client.
    if (!this.#client) this.#awaitClient()
  }

  #cancel(frame: Extract<ClientFrame, { type: 'cancel' | 'cancel_branch' }>): void {
    if (this.#log.ended) return
    if (this.#upstream) this.#upstream.cancel(frame)
    else if (frame.type === 'cancel') this.#cancelledEarly = true
  }

  #onFrame(frame: ClientFrame): void {
    if (this.#log.ended || frame.type === 'ack') return
    if (frame.type === 'generate') {
      if (this.#started) throw new AparError('invalid_request', 'this stream has its request already')
      const { type: _, ...request } = frame
      void this.#start(request)
    } else {
      if (!this.#started) throw new AparError('invalid_request', 'the first frame must be generate')
      this.#cancel(frame)
    }
  }

  async #start(request: GenerateRequest, node?: NodeAddress): Promise<void> {
    clearTimeout(this.#generateTimer)
    this.#started = true
    const admitted = await this.#admit(request, node !== undefined)
    if (!admitted || this.#over || this.#log.ended) {
      await this.#settle()
      return
    }
    const { stream, callContext, nodes, onNode, log, silenceMs } = this.#options
    this.#upstream = new Upstream({
      stream,
      callContext,
      request: admitted,
      log: this.#log,
      nodes,
      onNode,
      onBatch: () => this.#onBatch(),
      onLost: (error) => this.#fail(error),
      reportError: log,
      silenceMs,
    })
    if (this.#cancelledEarly) this.#upstream.cancel({ type: 'cancel' })
    void this.#upstream.run(node)
  }

  /** The request as it may run; undefined when the client was told that it may not. */
  async #admit(request: GenerateRequest, again: boolean): Promise<GenerateRequest | undefined> {
    try {
      this.#admitted = await this.#options.admit?.(request)
      return this.#admitted?.requests[0] ?? request
    } catch (error) {
      // It runs already: only its count is lost.
      if (again) return request
      this.#fail(error)
      return undefined
    }
  }

  #onBatch(): void {
    for (const event of this.#log.since(this.#observed - 1)) this.#admitted?.observe(event)
    this.#observed = this.#log.nextSeq
    if (this.#log.ended) void this.#settle()
    this.#client?.offer()
  }

  async #settle(): Promise<void> {
    const admitted = this.#admitted
    this.#admitted = undefined
    await admitted?.settle().catch(this.#options.log)
  }

  /** Without a goodbye it may come back for the rest; before its first event there is nothing to come back for. */
  #onClientGone(left: boolean): void {
    this.#client = undefined
    if (this.#over) return
    if (left || this.#log.nextSeq === 0) this.close()
    else this.#awaitClient()
  }

  #awaitClient(): void {
    this.#graceTimer ??= setTimeout(() => this.close(), this.#options.graceMs ?? 30_000)
  }

  #fail(thrown: unknown): void {
    if (this.#log.ended) return
    const error = toAparError(thrown)
    if (error.code === 'internal_error') this.#options.log(error.cause ?? thrown)
    const seq = this.#log.nextSeq
    if (seq === 0 && this.#upstream && this.#client?.resumed) {
      this.#client.refuse(error)
    } else {
      this.#log.append({ rows: [], events: [errorEvent(error, seq)] })
      this.#onBatch()
    }
    this.#upstream?.close()
  }

  /** Cancels what runs; nobody will ask for the stream again. */
  close(): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#generateTimer)
    clearTimeout(this.#graceTimer)
    this.#upstream?.close()
    void this.#settle()
    this.#client?.close(CLOSE_GOING_AWAY, 'the stream is over')
    this.#options.onOver()
  }
}
