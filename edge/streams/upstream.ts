import { AparError, toAparError } from '../../shared/errors.ts'
import { CLOSE_SERVICE_RESTART } from '../../shared/protocol/close-codes.ts'
import type { CallContext, NodeFrame, Tenant } from '../../shared/protocol/node.ts'
import { DryFields, type GenerateRequest } from '../../shared/protocol/request.ts'
import type { StreamLog } from '../../shared/stream-log.ts'
import type { BegunStream, Nodes } from '../nodes/fleet-nodes.ts'
import type { NodeAddress, NodeSocket } from '../nodes/node-socket.ts'
import { type ConnectionEnd, NodeReader } from './node-reader.ts'
import { Silence } from './silence.ts'
import { sleep } from './sleep.ts'

/** Attempts in a row without an event before the stream fails. */
const MAX_FAILURES = 5
/**
 * Moves of one stream to another node. Without this bound, a request that crashes nodes could crash the whole fleet.
 */
const MAX_MOVES = 6
const FIRST_BACKOFF_MS = 100
/**
 * Longest log of a stream, as the JSON of its batches: as much as an object's 128 MB of memory can hold. An honest node
 * may get there, with over half a million tokens or with long log-probabilities, so the stream ends, and no node is at
 * fault.
 */
const MAX_LOG_CHARS = 64 * 1024 * 1024

export interface UpstreamOptions {
  readonly stream: string
  readonly callContext?: CallContext | undefined
  /** On whose behalf the stream runs. */
  readonly tenant?: Promise<Tenant> | undefined
  /** Gets a random seed if it has none, so that every node that the stream moves to has the same one. */
  readonly request: GenerateRequest
  /** The batches that the nodes send are appended to it. */
  readonly log: StreamLog
  readonly nodes: Nodes
  /** The stream was started on this node. `request`: as all its nodes get it, with its seed. */
  readonly onNode: (request: GenerateRequest, node: NodeAddress) => void
  /** A batch was appended to the log. */
  readonly onBatch: () => void
  /** The stream failed: no node can continue it. */
  readonly onLost: (error: AparError) => void
  readonly reportError: (error: unknown) => void
  /** When a node has sent nothing for this long, its lease is checked. Default: Silence's. */
  readonly silenceMs?: number | undefined
}

const MAX_REMEMBERED_CANCELS = 1024

type StartFrame = Extract<NodeFrame, { type: 'start' }>

/**
 * Runs a stream on the gpu nodes: starts it on one, attaches again when the connection is lost, and moves the stream
 * with its log to another node when the node is lost.
 */
export class Upstream {
  readonly #options: UpstreamOptions
  /** The cancel frames so far, by their text. They are sent again to each node that the stream moves to. */
  readonly #cancels = new Map<string, NodeFrame>()
  /** As the node knows it that began the stream; what decides which text was sent stays for all nodes. */
  #request: GenerateRequest
  #socket: NodeSocket | undefined
  #logChars = 0
  #closed = false

  constructor(options: UpstreamOptions) {
    const { request } = options
    const { seed = randomSeed(), separate_reasoning = true } = request
    this.#request = { ...request, seed, separate_reasoning }
    this.#options = { ...options, request: this.#request }
  }

  /** Runs until the log has ended. `node`: has the stream already, for a session that has lost its memory. */
  async run(node?: NodeAddress): Promise<void> {
    try {
      if (node) this.#request = knownTo(node, this.#request)
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
    const { log, nodes, request, reportError } = this.#options
    const exclude: string[] = []
    let reader = known && this.#readerOf(known)
    let node = known
    let refusal: AparError | undefined
    let changed: AparError | undefined
    let moves = 0
    for (let failures = 0; ; ) {
      const before = log.nextSeq
      const attach = node !== undefined
      let end: ConnectionEnd
      try {
        node ??= await nodes.pick(request, exclude, this.#begun)
        if (!attach || !reader) reader = this.#readerOf(node)
        end = await this.#runOnNode(node, reader, attach)
      } catch (why) {
        // The client has got no event yet, so the reason itself is its answer.
        if (!node && log.nextSeq === 0) throw refusal ?? why
        end = { retry: 'move', why }
      }
      if (this.#finished) return
      reportError(end.why)
      if (end.retry === 'fail') throw end.why
      refusal = end.refusal ?? refusal
      const advanced = log.nextSeq > before
      changed = modelChanged(end) ?? (advanced ? undefined : changed)
      failures = advanced ? 1 : failures + 1
      if (end.retry === 'move') moves++
      const logLost = known !== undefined && log.nextSeq === 0 && end.retry === 'move'
      if (logLost) throw lost()
      if (failures > MAX_FAILURES || moves > MAX_MOVES)
        throw (log.nextSeq === 0 ? refusal : changed) ?? lost()
      // When no node is left to try, or the stream has advanced, nodes that failed before may be tried again.
      if (!node || advanced) exclude.length = 0
      if (node && end.retry === 'move') {
        reportFault(nodes, node.id, end)
        exclude.push(node.id)
        node = undefined
      }
      if (failures > 1) await sleep(FIRST_BACKOFF_MS * 2 ** (failures - 2))
      // The stream was closed during the pause: attach once more to cancel it, else the node would run it on for its
      // grace time.
      if (this.#finished && node && reader) await this.#runOnNode(node, reader, true)
      if (this.#finished) return
    }
  }

  /** Connects to the node and reads until the connection ends. @throws Error when the node cannot be reached. */
  async #runOnNode(node: NodeAddress, reader: NodeReader, attach: boolean): Promise<ConnectionEnd> {
    const { stream, callContext, request, log, nodes, silenceMs } = this.#options
    const tenant = attach ? undefined : await this.#options.tenant
    const socket = await nodes.connect(node)
    if (!attach) this.#request = knownTo(node, log.nextSeq === 0 ? request : this.#begunAs(request))
    const attachFrame: NodeFrame = { type: 'attach', stream, after: log.nextSeq - 1 }
    const startFrame = attach
      ? undefined
      : startOn(node, {
          stream,
          request: this.#request,
          log: log.batchesSince(-1),
          origin: callContext,
          tenant,
        })
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
    reader.reconnect()
    let silence: Silence | undefined
    try {
      const end = await new Promise<ConnectionEnd>((resolve) => {
        silence = new Silence({
          leaseMs: () => nodes.leaseMs(node.id),
          // A node without a lease gets no requests anyway. Once it has one again, it is back: no failure to remember.
          onLost: (why, hasLease) =>
            resolve({
              retry: 'move',
              why: `gpu node ${node.id} ${why}`,
              fault: hasLease ? 'failed' : 'none',
            }),
          startsStream: !attach && log.nextSeq === 0,
          silenceMs,
        })
        const { onMessage, onClose } = this.#listeners(socket, reader, silence, resolve)
        socket.listen(onMessage, onClose)
        this.#trySend(startFrame ?? attachFrame)
        for (const frame of this.#cancels.values()) this.#trySend(frame)
        if (!attach) this.#options.onNode(this.#request, node)
      })
      if (end.retry === 'fail' || end.runsOn) this.#release(socket)
      return end
    } finally {
      silence?.stop()
      if (!this.#finished) {
        this.#socket = undefined
        socket.close()
      }
    }
  }

  #listeners(
    socket: NodeSocket,
    reader: NodeReader,
    silence: Silence,
    resolve: (end: ConnectionEnd) => void,
  ) {
    return {
      onMessage: (text: string) => {
        // Frames of a connection that was given up: the next connection gets these events again.
        if (this.#socket !== socket || this.#finished) return
        silence.heard()
        const end = reader.receive(text) ?? this.#appended(text)
        if (end) resolve(end)
      },
      onClose: (code: number) =>
        resolve({
          retry: code === CLOSE_SERVICE_RESTART ? 'move' : 'attach',
          why: `the gpu node closed its socket (${code})`,
        }),
    }
  }

  /** A frame was appended to the log. Returns why the stream cannot continue on this connection. */
  #appended(text: string): ConnectionEnd | undefined {
    const { log, onBatch } = this.#options
    try {
      onBatch()
    } catch (why) {
      // An error of the edge itself: the node is not at fault.
      return { retry: 'move', why, fault: 'none', ...(!log.ended && { runsOn: true }) }
    }
    this.#logChars += text.length
    if (log.ended) return { retry: 'move', why: 'the stream has ended' }
    return this.#logChars > MAX_LOG_CHARS ? { retry: 'fail', why: tooLong() } : undefined
  }

  #readerOf(node: NodeAddress): NodeReader {
    const { stream, request, log } = this.#options
    return new NodeReader({ stream, request, log, node })
  }

  /**
   * The request as its first node began the text: in its scope of stop strings, with reasoning in it or apart, and with
   * members in parallel or not.
   */
  #begunAs(request: GenerateRequest): GenerateRequest {
    const { stop_scope, separate_reasoning, parallel_format } = this.#request
    return { ...request, stop_scope, separate_reasoning, parallel_format }
  }

  /** What a node needs that continues the stream; undefined when none has begun it. */
  get #begun(): BegunStream | undefined {
    const events = this.#options.log.since(-1)
    const [first] = events
    if (!first) return undefined
    const forks = events.some(({ type }) => type === 'fork')
    const hasReasoning = events.some(({ type }) => type === 'reasoning')
    return {
      fingerprint: first.type === 'accepted' ? first.fingerprint : undefined,
      startFields: [
        ...(this.#request.stop_scope === 'document' ? ['stop_scope'] : []),
        ...(hasReasoning ? ['separate_reasoning'] : []),
        ...(this.#request.parallel_format && forks ? ['parallel_format'] : []),
      ],
    }
  }

  get #finished(): boolean {
    return this.#closed || this.#options.log.ended
  }

  #trySend(frame: NodeFrame): void {
    if (this.#socket) trySend(this.#socket, frame)
  }
}

/** Fields of the request that a node knows only if it says so. Without `stop_scope`, a stop string ends its branch only. */
const LATER_FIELDS = [
  'stop_scope',
  'speculation',
  'trace',
  'separate_reasoning',
  'parallel_format',
  'return_prompt_token_ids',
] as const
/** With a multiplier of 0: others are sent only to nodes that know them. */
const DRY_FIELDS = DryFields.keyof().options

function knownTo({ startFields = [] }: NodeAddress, request: GenerateRequest): GenerateRequest {
  const known = { ...request }
  for (const field of LATER_FIELDS) if (!startFields.includes(field)) delete known[field]
  if (!startFields.includes('dry')) for (const field of DRY_FIELDS) delete known[field]
  if (startFields.includes('separate_reasoning')) return known
  return { ...known, messages: known.messages.map(({ reasoning_content: _, ...message }) => message) }
}

/** The frame with what the node knows of it. */
function startOn({ startFields = [] }: NodeAddress, start: Omit<StartFrame, 'type'>): StartFrame {
  const { tenant, ...frame } = start
  return { type: 'start', ...frame, ...(startFields.includes('tenant') && { tenant }) }
}

function trySend(socket: NodeSocket, frame: NodeFrame): void {
  try {
    socket.send(frame)
  } catch {
    // The socket is closed; its close event follows.
  }
}

function reportFault(nodes: Nodes, id: string, { fault = 'failed', why }: ConnectionEnd): void {
  if (fault === 'nonsense') nodes.reportNonsense(id, toAparError(why))
  else if (fault === 'failed') nodes.reportFailure(id)
}

/** The error that says that only nodes with another model are left. */
function modelChanged({ why, refusal }: ConnectionEnd): AparError | undefined {
  return [refusal, why].find((error) => error instanceof AparError && error.code === 'model_changed') as
    | AparError
    | undefined
}

function tooLong(): AparError {
  return new AparError(
    'body_too_large',
    `the answer is longer than the ${MAX_LOG_CHARS} characters that are kept of a stream`,
  )
}

function lost(): AparError {
  return new AparError('gpu_node_lost', 'the gpu node was lost, and no other node could continue the stream')
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0
}
