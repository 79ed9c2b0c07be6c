import { AparError } from '../../shared/errors.ts'
import { type ErrorEvent, errorOf } from '../../shared/protocol/events.ts'
import { parseBatch } from '../../shared/protocol/parse-batch.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { StreamLog } from '../../shared/stream-log.ts'
import type { NodeAddress } from '../nodes/node-socket.ts'
import { EventCheck } from './event-check.ts'
import { NodeAllowance } from './node-allowance.ts'

/** How one connection to a node ended before the stream did. */
export interface ConnectionEnd {
  /** `fail`: no node could do better; `why` is the client's answer. */
  readonly retry: 'attach' | 'move' | 'fail'
  readonly why: unknown
  /**
   * Default `failed`. `none`: the node refused the stream, or does not have it. `nonsense`: it sent what no honest node
   * sends, so nothing else that it sends can be trusted.
   */
  readonly fault?: 'none' | 'failed' | 'nonsense'
  /** The node still runs the stream, which has to be cancelled there. */
  readonly runsOn?: true
  /** The node's error, to be sent to the client if no other node accepts the request. */
  readonly refusal?: AparError
}

/** Errors of a node with which the stream moves to another node, and whether they show a fault of this node. */
const ERRORS_THAT_MOVE: Partial<Record<ErrorEvent['code'], 'none' | 'failed'>> = {
  overloaded: 'none',
  stream_not_found: 'none',
  model_changed: 'none',
  engine_error: 'failed',
  gpu_node_lost: 'failed',
}

const MAX_REASON_CHARS = 200

export interface NodeReaderOptions {
  readonly stream: string
  readonly request: GenerateRequest
  readonly log: StreamLog
  readonly node: NodeAddress
}

/** Reads what one node sends for a stream, over all connections to it, and appends to the log what holds the protocol. */
export class NodeReader {
  readonly #options: NodeReaderOptions
  readonly #allowance: NodeAllowance
  #check: EventCheck

  constructor(options: NodeReaderOptions) {
    this.#options = options
    this.#allowance = new NodeAllowance(options.request, options.node.contextTokens)
    this.#check = this.#newCheck()
  }

  /** The log is what counts: the check of a connection that broke in the middle of a batch may be ahead of it. */
  reconnect(): void {
    this.#check = this.#newCheck()
  }

  /** Appends a frame to the log, or returns why the stream cannot continue on this connection. */
  receive(text: string): ConnectionEnd | undefined {
    try {
      return this.#receive(text)
    } catch (thrown) {
      // An error of the edge itself says nothing about the node.
      if (!(thrown instanceof AparError)) return { retry: 'move', why: thrown, fault: 'none', runsOn: true }
      // The message may quote the frame.
      const why = new AparError(thrown.code, thrown.message.slice(0, MAX_REASON_CHARS), { cause: thrown })
      return { retry: 'move', why, fault: 'nonsense', runsOn: true }
    }
  }

  #receive(text: string): ConnectionEnd | undefined {
    const { log } = this.#options
    if (!this.#allowance.hasRoomFor(text))
      return { retry: 'move', why: `a frame of ${text.length} characters`, fault: 'failed', runsOn: true }
    const batch = parseBatch(text)
    const last = batch.events.at(-1)
    const refused = last?.type === 'error' && refusalOf(last, log)
    // The batch is dropped: the next node generates its other events again.
    if (refused) return refused
    this.#allowance.take(batch, text)
    for (const event of batch.events) this.#check.check(event)
    log.append(batch)
    return undefined
  }

  #newCheck(): EventCheck {
    const { stream, request, log, node } = this.#options
    return new EventCheck(stream, request, node.contextTokens, log.since(-1))
  }
}

/** undefined: the error is the stream's last event. */
function refusalOf(error: ErrorEvent, log: StreamLog): ConnectionEnd | undefined {
  // A node that does not take over a stream with a log says why in an event with number 0.
  const refusesLog = log.nextSeq > 0 && error.seq === 0
  const moves = error.retry === false ? undefined : ERRORS_THAT_MOVE[error.code]
  const fault = moves ?? (refusesLog ? 'failed' : undefined)
  if (!fault) return undefined
  const why = `${error.code}: ${error.message}`
  // `stream_not_found` means nothing to a client that has started a new stream.
  return { retry: 'move', why, fault, ...(error.code !== 'stream_not_found' && { refusal: errorOf(error) }) }
}
