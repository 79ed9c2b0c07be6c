import { AparError, toAparError } from '../../shared/errors.ts'
import { CLOSE_GOING_AWAY, CLOSE_REPLACED } from '../../shared/protocol/close-codes.ts'
import { errorEvent, type StreamEvent } from '../../shared/protocol/events.ts'
import type { ClientFrame } from '../../shared/protocol/frames.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { StreamLog } from '../../shared/stream-log.ts'
import { isForOperator } from '../log.ts'
import type { Nodes } from '../nodes/fleet-nodes.ts'
import type { NodeAddress } from '../nodes/node-socket.ts'
import { ClientLink } from './client-link.ts'
import { Upstream, type UpstreamOptions } from './upstream.ts'

export interface RelayOptions {
  readonly stream: string
  readonly callContext?: CallContext | undefined
  readonly tenant?: UpstreamOptions['tenant']
  readonly nodes: Nodes
  /** Reserves what the request may use in its key's limits. @throws AparError that is sent to the client. */
  readonly admit?: ((request: GenerateRequest) => Promise<Admitted>) | undefined
  /** The stream was started on this node, or has moved there. */
  readonly onNode: (request: GenerateRequest, node: NodeAddress) => void
  /** The relay is closed, and the stream cannot be resumed any more. */
  readonly onClose: () => void
  readonly log: (error: unknown) => void
  /** Grace time: how long the stream is kept for a client that was disconnected. Default 30 s. */
  readonly graceMs?: number | undefined
  /** How long a client may take to send `generate`. Default 10 s. */
  readonly generateTimeoutMs?: number | undefined
  readonly silenceMs?: number | undefined
  readonly keepAliveMs?: number | undefined
  readonly stallMs?: number | undefined
}

export interface Admitted {
  /** The requests to run, with `max_tokens` as the limits allow. */
  readonly requests: readonly GenerateRequest[]
  observe(event: StreamEvent): void
  settle(): Promise<void>
}

export interface ClientOptions {
  /** The client has all events up to this one; -1 for a new stream. */
  readonly after: number
  readonly acks: boolean
  /** The client closes the socket itself when everything has arrived. */
  readonly relayed?: boolean | undefined
  /** It gets the rows of the events, too. */
  readonly rows?: boolean | undefined
}

/** Relays one stream between the gpu nodes and its client, which may disconnect and resume. They share only its log. */
export class StreamRelay {
  readonly #options: RelayOptions
  readonly #log = new StreamLog()
  #upstream: Upstream | undefined
  #admitted: Admitted | undefined
  /** Number of the log's events that were passed to `Admitted.observe`. */
  #observed = 0
  #started = false
  /** A `cancel` came before the request was admitted. There are no branches yet, so `cancel_branch` is ignored. */
  #cancelledEarly = false
  #client: ClientLink | undefined
  #generateTimer: ReturnType<typeof setTimeout> | null = null
  #graceTimer: ReturnType<typeof setTimeout> | null = null
  #closed = false

  constructor(options: RelayOptions) {
    this.#options = options
  }

  /** For a session that has lost its memory: reads the stream's log again from its node. */
  recover(request: GenerateRequest, node: NodeAddress): void {
    void this.#start(request, node)
  }

  /** Serves a client's socket (accepted before). Closes the socket of the client that was connected until now. */
  connect(socket: WebSocket, { after, acks, relayed, rows }: ClientOptions): void {
    this.#client?.close(CLOSE_REPLACED, 'another connection reads this stream')
    clearTimeout(this.#graceTimer)
    this.#graceTimer = null
    const client: ClientLink = new ClientLink(socket, this.#log, {
      after,
      acks,
      relayed,
      rows,
      onFrame: (frame) => this.#onFrame(frame),
      onBadFrame: (error) => this.#fail(error),
      onClose: (intended) => {
        if (this.#client === client) this.#onClientClose(intended)
      },
      keepAliveMs: this.#options.keepAliveMs,
      stallMs: this.#options.stallMs,
    })
    this.#client = client
    if (this.#started) {
      client.flush()
      return
    }
    const timeoutMs = this.#options.generateTimeoutMs ?? 10_000
    this.#generateTimer = setTimeout(() => {
      this.#fail(new AparError('invalid_request', `no generate frame within ${timeoutMs} ms`))
    }, timeoutMs)
  }

  /**
   * Ends the stream for all its readers. What was generated is kept: a client that is disconnected may resume within
   * the grace time to read it.
   */
  cancel(): void {
    this.#cancel({ type: 'cancel' })
    // A session that was created again for this call has never had a client.
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
      if (this.#started) throw new AparError('invalid_request', 'this stream already has its request')
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
    if (!admitted || this.#closed || this.#log.ended) {
      await this.#settle()
      return
    }
    const { stream, callContext, tenant, nodes, onNode, log, silenceMs } = this.#options
    this.#upstream = new Upstream({
      stream,
      callContext,
      tenant,
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

  /** The request to run; undefined when it was refused, and the client has got the error. */
  async #admit(request: GenerateRequest, running: boolean): Promise<GenerateRequest | undefined> {
    try {
      this.#admitted = await this.#options.admit?.(request)
      return this.#admitted?.requests[0] ?? request
    } catch (error) {
      // After a restart of the session: only the usage of the stream is not counted.
      if (running) return request
      this.#fail(error)
      return undefined
    }
  }

  #onBatch(): void {
    for (const event of this.#log.since(this.#observed - 1)) this.#admitted?.observe(event)
    this.#observed = this.#log.nextSeq
    if (this.#log.ended) void this.#settle()
    this.#client?.flush()
  }

  async #settle(): Promise<void> {
    const admitted = this.#admitted
    this.#admitted = undefined
    await admitted?.settle().catch(this.#options.log)
  }

  /**
   * A client that was disconnected may resume, unless no event was sent yet: then it does not know the stream's name.
   */
  #onClientClose(intended: boolean): void {
    this.#client = undefined
    if (this.#closed) return
    if (intended || this.#log.nextSeq === 0) this.close()
    else this.#awaitClient()
  }

  #awaitClient(): void {
    this.#graceTimer ??= setTimeout(() => this.close(), this.#options.graceMs ?? 30_000)
  }

  #fail(thrown: unknown): void {
    if (this.#log.ended) return
    const error = toAparError(thrown)
    if (isForOperator(error)) this.#options.log(error.cause ?? thrown)
    const seq = this.#log.nextSeq
    if (seq === 0 && this.#upstream && this.#client?.resumed) {
      this.#client.refuse(error)
    } else {
      this.#log.append({ rows: [], events: [errorEvent(error, seq)] })
      this.#onBatch()
    }
    this.#upstream?.close()
  }

  /** Cancels what runs. The stream cannot be resumed any more. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#generateTimer)
    clearTimeout(this.#graceTimer)
    this.#upstream?.close()
    void this.#settle()
    this.#client?.close(CLOSE_GOING_AWAY, 'the stream is over')
    this.#options.onClose()
  }
}
