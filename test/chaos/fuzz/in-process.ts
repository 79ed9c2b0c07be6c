import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { chatRequests, completionRequests } from '../../../edge/openai/request.ts'
import { type RequestSocket, serveRequest } from '../../../gpu-node/requests/request-socket.ts'
import { MessagesRequest } from '../../../shared/anthropic.ts'
import { ChangeKeyRequest, CreateKeyRequest, RotateKeyRequest } from '../../../shared/api-keys.ts'
import { AparError } from '../../../shared/errors.ts'
import { ChatCompletionRequest, CompletionRequest } from '../../../shared/openai.ts'
import { parseJson } from '../../../shared/parse.ts'
import { coalesce } from '../../../shared/protocol/deltas.ts'
import { FromDialledInNode, ToDialledInNode } from '../../../shared/protocol/dial-in.ts'
import { Heartbeat } from '../../../shared/protocol/fleet.ts'
import { ClientFrame } from '../../../shared/protocol/frames.ts'
import { MultiplexedFrame } from '../../../shared/protocol/multiplex.ts'
import { NodeBatch, NodeFrame } from '../../../shared/protocol/node.ts'
import { parseBatch } from '../../../shared/protocol/parse-batch.ts'
import { ResponsesRequest } from '../../../shared/responses.ts'
import { Counts } from './counts.ts'
import * as examples from './examples.ts'
import { mutated } from './mutations.ts'
import { pacedStreams } from './paced-streams.ts'

interface Target {
  readonly name: string
  /** Frames or bodies. */
  readonly inputs: fc.Arbitrary<readonly string[]>
  /** Handles one case; throws when the result is not as expected. */
  readonly handle: (inputs: readonly string[]) => void
}

const MAX_BATCH_SIZE = 500
const MIN_BATCHES = 100
/** Number of batches between two measurements of the heap. */
const HEAP_BATCHES = 20

export interface InProcessResult {
  /** Number of inputs by boundary. */
  readonly inputs: Counts
  /** One line each, with seed and input. */
  readonly failures: string[]
  readonly slowestMs: number
  /** Heap in use in MiB, after garbage collection. */
  readonly heap: number[]
}

/**
 * Fuzzes the parsers of all boundaries and the gpu node's handling of a stream's socket, in this process:
 * fast-check shrinks failures.
 */
export async function fuzzInProcess(
  size: number,
  seed: number,
  log: (line: string) => void,
): Promise<InProcessResult> {
  const targets = [...parserTargets(), await nodeTarget()]
  const failures: string[] = []
  const heap: number[] = []
  const inputs = new Counts()
  let slowestMs = 0
  const most = Math.min(MAX_BATCH_SIZE, Math.ceil(size / MIN_BATCHES))
  for (let batch = 0; inputs.total < size; batch++) {
    const target = targets[batch % targets.length]
    if (!target) break
    const numRuns = Math.min(most, size - inputs.total)
    const handle = (texts: readonly string[]) => {
      const begun = performance.now()
      inputs.add(target.name, texts.length)
      target.handle(texts)
      slowestMs = Math.max(slowestMs, performance.now() - begun)
    }
    const details = fc.check(fc.property(target.inputs, handle), { seed: seed + batch, numRuns })
    if (details.failed) {
      const { counterexample, errorInstance } = details
      failures.push(
        `${target.name}, seed ${seed + batch}: ${errorInstance}: ${JSON.stringify(counterexample)}`,
      )
      log(failures.at(-1) ?? '')
    }
    // Lets timers and engine events run, so that memory still in use afterwards is a leak.
    await turn()
    if (batch % HEAP_BATCHES === HEAP_BATCHES - 1) heap.push(heapMiB())
    if (batch % 200 === 199) log(`${inputs.total} inputs in process`)
  }
  return { inputs, failures, slowestMs, heap }
}

function heapMiB(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed / 2 ** 20
}

const REFUSALS: readonly string[] = ['invalid_json', 'invalid_request']

/** A target that parses its input with `use`; only errors in REFUSALS are expected. */
function parser(name: string, of: readonly object[], use: (text: string) => unknown): Target {
  const handle = ([text = '']: readonly string[]) => {
    try {
      use(text)
    } catch (error) {
      if (!(error instanceof AparError) || !REFUSALS.includes(error.code)) throw error
    }
  }
  return { name, inputs: mutated(of).map((text) => [text]), handle }
}

function parserTargets(): Target[] {
  return [
    parser('client frame', examples.CLIENT_FRAMES, (text) => parseJson(ClientFrame, text)),
    parser('node frame', examples.NODE_FRAMES, (text) => parseJson(NodeFrame, text)),
    parser('node batch', examples.NODE_BATCHES, (text) => coalesce(parseBatch(text).events)),
    parser('chat body', examples.CHAT_BODIES, (text) =>
      chatRequests({ ...parseJson(ChatCompletionRequest, text), model: 'demo' }),
    ),
    parser('completion body', examples.COMPLETION_BODIES, (text) =>
      completionRequests({ ...parseJson(CompletionRequest, text), model: 'demo' }),
    ),
    parser('responses body', examples.RESPONSES_BODIES, (text) => parseJson(ResponsesRequest, text)),
    parser('messages body', examples.MESSAGES_BODIES, (text) => parseJson(MessagesRequest, text)),
    parser('frame of a shared socket', examples.MULTIPLEXED_FRAMES, (text) =>
      parseJson(MultiplexedFrame, text),
    ),
    parser('from a node that dialled in', examples.FROM_DIALLED_IN, (text) =>
      parseJson(FromDialledInNode, text),
    ),
    parser('to a node that dialled in', examples.TO_DIALLED_IN, (text) => parseJson(ToDialledInNode, text)),
    parser('heartbeat', examples.HEARTBEATS, (text) => parseJson(Heartbeat, text)),
    ...[CreateKeyRequest, ChangeKeyRequest, RotateKeyRequest].map((schema) =>
      parser('key body', examples.KEY_BODIES, (text) => parseJson<unknown>(schema, text)),
    ),
  ]
}

/** Sockets of a gpu node, each with up to three frames, then closed. The node's output must follow the protocol. */
async function nodeTarget(): Promise<Target> {
  const streams = await pacedStreams()
  const handle = (frames: readonly string[]) => {
    const socket = new FakeSocket()
    serveRequest(socket, streams)
    for (const frame of frames) socket.emit('message', frame, false)
    socket.emit('close')
    for (const text of socket.sent) parseJson(NodeBatch, text)
    if (socket.sent.some((text) => text.includes('internal_error'))) throw new Error('internal_error')
  }
  const inputs = fc.array(mutated(examples.NODE_FRAMES), { minLength: 1, maxLength: 3 })
  return { name: 'socket of a gpu node', inputs, handle }
}

class FakeSocket implements RequestSocket {
  readonly sent: string[] = []
  readonly bufferedAmount = 0
  readonly #listeners = new Map<string, (...args: never[]) => void>()

  on(event: string, listener: (...args: never[]) => void): void {
    this.#listeners.set(event, listener)
  }

  emit(event: string, ...args: unknown[]): void {
    this.#listeners.get(event)?.(...(args as never[]))
  }

  send(text: string): void {
    this.sent.push(text)
  }
  close(): void {}
  terminate(): void {}
  ping(): void {}
}
