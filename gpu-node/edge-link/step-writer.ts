import type { WebSocket } from 'ws'
import type { FromDialledInNode } from '../../shared/protocol/dial-in.ts'

/** Longest message that is made of several frames; a single frame may be longer. */
const MAX_STEP_CHARS = 1024 * 1024

/** Sends what all channels have to say after one delivery of the engine as one message. */
export class StepWriter {
  readonly #socket: WebSocket
  #frames: [channel: number, frame: string | number][] = []
  #written: (() => void)[] = []
  #chars = 0
  #scheduled = false

  constructor(socket: WebSocket) {
    this.#socket = socket
  }

  /** A channel's frame, or the code with which it closes. */
  push(channel: number, frame: string | number, written = () => {}): void {
    const chars = typeof frame === 'string' ? frame.length : 0
    if (this.#frames.length > 0 && this.#chars + chars > MAX_STEP_CHARS) this.flush()
    this.#frames.push([channel, frame])
    this.#written.push(written)
    this.#chars += chars
    if (this.#scheduled) return
    this.#scheduled = true
    // A delivery of the engine is one task: what it makes all streams say is here before the next microtask.
    queueMicrotask(() => {
      this.#scheduled = false
      this.flush()
    })
  }

  flush(): void {
    if (this.#frames.length === 0) return
    const step: FromDialledInNode = { type: 'step', frames: this.#frames }
    const written = this.#written
    this.#frames = []
    this.#written = []
    this.#chars = 0
    this.#socket.send(JSON.stringify(step), () => {
      for (const each of written) each()
    })
  }
}
