import type { WebSocket } from 'ws'
import type { FromDialledInNode } from '../../shared/protocol/dial-in.ts'

/** Largest message that combines several frames; a single frame may be larger. */
const MAX_STEP_CHARS = 1024 * 1024

/** Combines the frames that all channels send after one delivery of engine events into one message. */
export class StepWriter {
  readonly #socket: WebSocket
  #frames: [channel: number, frame: string | number][] = []
  #written: (() => void)[] = []
  #chars = 0
  #scheduled = false

  constructor(socket: WebSocket) {
    this.#socket = socket
  }

  /** Queues a channel's frame, or its close code. `written` is called when the message has left this process. */
  push(channel: number, frame: string | number, written = () => {}): void {
    const chars = typeof frame === 'string' ? frame.length : 0
    if (this.#frames.length > 0 && this.#chars + chars > MAX_STEP_CHARS) this.flush()
    this.#frames.push([channel, frame])
    this.#written.push(written)
    this.#chars += chars
    if (this.#scheduled) return
    this.#scheduled = true
    // All streams handle one delivery of engine events synchronously, so their frames are queued before this microtask.
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
