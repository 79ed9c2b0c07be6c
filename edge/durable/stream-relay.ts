import { AparError, toAparError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/parse.ts'
import { type ErrorEvent, isTerminal, StreamEvent } from '../../shared/protocol/events.ts'
import { ClientFrame, MAX_FRAME_CHARS, type NodeFrame } from '../../shared/protocol/frames.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { closeQuietly, type NodeSocket } from '../gpu-node.ts'

export type OpenNode = (model: string) => Promise<{ id: string; socket: NodeSocket }>

export interface RelayOptions {
  readonly stream: string
  /** @throws AparError to be shown to the client. */
  readonly openNode: OpenNode
  readonly isNodeAlive: (id: string) => Promise<boolean>
  readonly log: (error: unknown) => void
  /** How long a client may take to send `generate`. Default 10 s. */
  readonly generateTimeoutMs?: number
  /** A node silent for this long is looked up in the fleet. Default 15 s, the length of a lease. */
  readonly silenceMs?: number
}

/** Carries one stream from a gpu node to a client socket that was accepted, and cancels the other way. */
export class StreamRelay {
  readonly #client: WebSocket
  readonly #options: RelayOptions
  readonly #generateTimer: ReturnType<typeof setTimeout>
  #silenceTimer: ReturnType<typeof setInterval> | null = null
  #phase: 'waiting' | 'opening' | 'live' | 'ended' = 'waiting'
  #node: NodeSocket | undefined
  /** Cancels that came while the node's socket was opening. */
  readonly #early: NodeFrame[] = []
  #nextSeq = 0
  #heard = true

  constructor(client: WebSocket, options: RelayOptions) {
    this.#client = client
    this.#options = options
    const timeoutMs = options.generateTimeoutMs ?? 10_000
    this.#generateTimer = setTimeout(() => {
      this.#fail(new AparError('invalid_request', `no generate frame within ${timeoutMs} ms`))
    }, timeoutMs)
    client.addEventListener('message', ({ data }) => this.#onClientFrame(data))
    client.addEventListener('close', () => this.#onClientGone())
    client.addEventListener('error', () => this.#onClientGone())
  }

  #onClientFrame(data: string | ArrayBuffer): void {
    if (this.#phase === 'ended') return
    try {
      const frame = parseJson(ClientFrame, clientText(data))
      if (frame.type !== 'generate') {
        this.#cancel(frame)
      } else {
        if (this.#phase !== 'waiting') throw new AparError('invalid_request', 'a socket carries one stream')
        const { type: _, ...request } = frame
        void this.#start(request)
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  #cancel(frame: NodeFrame): void {
    if (this.#phase === 'waiting') throw new AparError('invalid_request', 'the first frame must be generate')
    if (this.#node) this.#node.send(frame)
    else this.#early.push(frame)
  }

  async #start(request: GenerateRequest): Promise<void> {
    clearTimeout(this.#generateTimer)
    this.#phase = 'opening'
    try {
      const { id, socket } = await this.#options.openNode(request.model)
      if (this.#hasEnded()) {
        socket.close()
        return
      }
      this.#phase = 'live'
      this.#node = socket
      socket.listen(
        (text) => this.#onNodeEvent(text),
        () => this.#onNodeGone('the gpu node closed its socket'),
      )
      socket.send({ type: 'start', stream: this.#options.stream, request })
      for (const frame of this.#early.splice(0)) socket.send(frame)
      this.#watchForSilence(id)
    } catch (error) {
      this.#fail(error)
    }
  }

  /** The text goes on as it came; reading it makes sure that the client can rely on the protocol. */
  #onNodeEvent(text: string): void {
    if (this.#phase !== 'live') return
    this.#heard = true
    try {
      const event = parseJson(StreamEvent, text)
      if (event.seq !== this.#nextSeq) throw new Error(`event ${event.seq} instead of ${this.#nextSeq}`)
      this.#nextSeq++
      this.#client.send(text)
      if (isTerminal(event)) this.#end()
    } catch (error) {
      this.#onNodeGone(error)
    }
  }

  #onNodeGone(why: unknown): void {
    if (this.#phase === 'ended') return
    this.#options.log(why)
    this.#fail(new AparError('gpu_node_lost', 'the gpu node was lost before the stream ended'))
  }

  /** A machine that vanishes closes no socket, but it misses its heart-beats. */
  #watchForSilence(nodeId: string): void {
    this.#silenceTimer = setInterval(async () => {
      if (!this.#heard && !(await this.#options.isNodeAlive(nodeId)))
        this.#onNodeGone('lease ended in silence')
      this.#heard = false
    }, this.#options.silenceMs ?? 15_000)
  }

  #onClientGone(): void {
    if (this.#phase !== 'ended') this.#end({ cancel: true })
  }

  #fail(thrown: unknown): void {
    if (this.#phase === 'ended') return
    const { code, message, param, cause } = toAparError(thrown)
    if (code === 'internal_error') this.#options.log(cause ?? thrown)
    const event: ErrorEvent = { type: 'error', seq: this.#nextSeq, code, message, param: param ?? null }
    this.#client.send(JSON.stringify(event))
    this.#end({ cancel: true })
  }

  #end({ cancel = false } = {}): void {
    this.#phase = 'ended'
    clearTimeout(this.#generateTimer)
    clearInterval(this.#silenceTimer)
    try {
      if (cancel) this.#node?.send({ type: 'cancel' })
    } catch {
      // The node is gone; there is nothing left to cancel.
    }
    this.#node?.close()
    closeQuietly(this.#client)
  }

  /** A method, because TypeScript does not see that the phase changes during an await. */
  #hasEnded(): boolean {
    return this.#phase === 'ended'
  }
}

function clientText(data: string | ArrayBuffer): string {
  if (typeof data !== 'string') throw new AparError('invalid_request', 'frames must be text')
  if (data.length <= MAX_FRAME_CHARS) return data
  throw new AparError('body_too_large', `a frame may have at most ${MAX_FRAME_CHARS} characters`)
}
