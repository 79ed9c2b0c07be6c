import { AparError } from '../../shared/errors.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { GoodTokenAnswer, TokenQuery } from '../../shared/protocol/token-query.ts'
import { StreamLog } from '../../shared/stream-log.ts'
import { LargeFrames } from './large-frames.ts'
import type { RequestHandle, Runner, StartOptions } from './runner.ts'

/** How long a stream keeps running, and its log is kept, while no socket reads it. */
const GRACE_MS = 30_000

/** The current reader of a stream: a socket. */
export interface Reader {
  send(batch: NodeBatch): void
  /** The reader gets no more batches: another reader has replaced it, or the stream was closed. */
  disconnect(reason: string): void
  /** The stream was delivered completely. */
  complete(): void
  /** The stream does not start; the reader gets nothing else. */
  refuse(error: unknown): void
}

/** All streams of a gpu node, from their start until their logs are no longer needed. */
export class ServedStreams {
  /** Of all sockets. */
  readonly largeFrames = new LargeFrames()
  readonly #runner: Runner
  readonly #graceMs: number
  readonly #streams = new Map<string, ServedStream>()
  #draining = false
  #drained: () => void = () => {}

  constructor(runner: Runner, graceMs = GRACE_MS) {
    this.#runner = runner
    this.#graceMs = graceMs
  }

  get draining(): boolean {
    return this.#draining
  }

  /** @throws AparError when no streams start any more. What else refuses the request, the reader hears later. */
  start(
    stream: string,
    request: GenerateRequest,
    log: readonly NodeBatch[],
    reader: Reader,
    call: Pick<StartOptions, 'callContext' | 'tenant' | 'forced'> = {},
  ): ServedStream {
    if (this.#draining) {
      throw new AparError('overloaded', 'this gpu node is shutting down', { retryAfterSeconds: 1 })
    }
    // The edge may move a stream away and later back, with a longer log than this node has.
    this.#streams.get(stream)?.close('the stream was started again')
    const served: ServedStream = new ServedStream(log, reader, this.#graceMs, () =>
      this.#remove(stream, served),
    )
    this.#streams.set(stream, served)
    const publish = (batch: NodeBatch) => served.publish(batch)
    this.#runner.start(stream, request, publish, { log, ...call, signal: served.signal }).then(
      (running) => served.started(running),
      (error) => served.refuse(error),
    )
    return served
  }

  /** @throws AparError */
  answer(query: TokenQuery, options: Pick<StartOptions, 'tenant' | 'signal'>): Promise<GoodTokenAnswer> {
    return this.#runner.answer(query, options)
  }

  /** @throws AparError `stream_not_found`. */
  attach(stream: string, after: number, reader: Reader): ServedStream {
    const served = this.#streams.get(stream)
    if (!served) throw new AparError('stream_not_found', 'this gpu node has no such stream')
    served.attach(after, reader)
    return served
  }

  /** Takes no new streams; settles when all running streams have ended, at the latest after `deadlineMs`. */
  async drain(deadlineMs: number): Promise<void> {
    this.#draining = true
    const running = [...this.#streams.values()].filter(({ ended }) => !ended)
    if (running.length === 0) return
    await new Promise<void>((resolve) => {
      const deadline = setTimeout(resolve, deadlineMs)
      this.#drained = () => {
        if ([...this.#streams.values()].some(({ ended }) => !ended)) return
        clearTimeout(deadline)
        resolve()
      }
      for (const served of running) served.onEnd = this.#drained
    })
  }

  /**
   * Disconnects all readers, so that the edge moves the streams, and refuses new streams: the engine is about to
   * close.
   */
  disconnectAll(reason: string): void {
    this.#draining = true
    for (const served of this.#streams.values()) served.close(reason)
  }

  /** A newer stream of the same name may have replaced this one. */
  #remove(stream: string, served: ServedStream): void {
    if (this.#streams.get(stream) === served) this.#streams.delete(stream)
    this.#drained()
  }
}

/** One stream: its request, its log and its reader. */
export class ServedStream {
  onEnd: () => void = () => {}
  readonly #log: StreamLog
  readonly #graceMs: number
  readonly #remove: () => void
  #reader: Reader | undefined
  #grace: ReturnType<typeof setTimeout> | undefined
  #acked = -1
  /** Undefined while its prompt is being encoded. */
  #request: RequestHandle | undefined
  readonly #cancelled = new AbortController()
  /** Branches of a stream that has moved here, cancelled while its prompt was being encoded. */
  readonly #cancelledBranches = new Set<number>()

  constructor(log: readonly NodeBatch[], reader: Reader, graceMs: number, remove: () => void) {
    this.#log = new StreamLog(log)
    this.#reader = reader
    this.#graceMs = graceMs
    this.#remove = remove
  }

  /** Aborted when the request is cancelled. */
  get signal(): AbortSignal {
    return this.#cancelled.signal
  }

  started(request: RequestHandle): void {
    this.#request = request
    for (const branch of this.#cancelledBranches) request.cancelBranch(branch)
    if (this.signal.aborted) request.cancel()
  }

  cancel(): void {
    this.#cancelled.abort()
    this.#request?.cancel()
  }

  cancelBranch(branch: number): void {
    if (this.#request) this.#request.cancelBranch(branch)
    else if (branch === 0) this.cancel()
    else this.#cancelledBranches.add(branch)
  }

  /** Ends the stream with an error. */
  fail(error: unknown): void {
    if (this.#request) this.#request.fail(error)
    else this.refuse(error)
  }

  /** Ends a stream that has not started. */
  refuse(error: unknown): void {
    const reader = this.#reader
    this.#reader = undefined
    reader?.refuse(error)
    this.close('the request was refused')
  }

  get ended(): boolean {
    return this.#log.ended
  }

  publish(batch: NodeBatch): void {
    this.#log.append(batch)
    this.#reader?.send(batch)
    if (!this.ended) return
    this.onEnd()
    this.#removeWhenAcknowledged()
  }

  attach(after: number, reader: Reader): void {
    this.#reader?.disconnect('another socket reads this stream')
    clearTimeout(this.#grace)
    this.#reader = reader
    for (const batch of this.#log.batchesSince(after)) reader.send(batch)
  }

  /**
   * Called when the reader has disconnected. Without a new reader within the grace time the stream is cancelled
   * and deleted.
   */
  detach(reader: Reader): void {
    if (this.#reader !== reader) return
    this.#reader = undefined
    this.#grace = setTimeout(() => this.close('no reader within the grace time'), this.#graceMs)
  }

  ack(seq: number): void {
    this.#acked = Math.max(this.#acked, seq)
    this.#removeWhenAcknowledged()
  }

  #removeWhenAcknowledged(): void {
    if (!this.ended || this.#acked < this.#log.nextSeq - 1) return
    this.#reader?.complete()
    this.close('acknowledged')
  }

  close(reason: string): void {
    clearTimeout(this.#grace)
    this.cancel()
    const reader = this.#reader
    this.#reader = undefined
    reader?.disconnect(reason)
    this.#remove()
  }
}
