import type { AnswerSoFar, GrowingAnswer } from '../openai/answer-so-far.ts'
import type { Call } from '../streams/http/choice.ts'
import type { AnswerPart } from '../streams/http/single-answer.ts'

/** What the parts of an answer make together. */
export class PartialAnswer implements AnswerSoFar {
  readonly accepted: { readonly stream: string }
  text = ''
  reasoning = ''
  readonly calls: Call[] = []

  /** `name`: what the ids of its items are made of. */
  constructor(name: string) {
    this.accepted = { stream: name }
  }

  add(part: AnswerPart): void {
    if (typeof part === 'string') this.text += part
    else if (part.type === 'reasoning') this.reasoning += part.text
    else if (part.type === 'tool_call') this.calls.push({ id: part.call_id, name: part.name, arguments: '' })
    else {
      const call = this.calls[part.call]
      if (call) call.arguments += part.text
    }
  }
}

/** The parts of an answer in order, for any number of readers, each of which reads all of them. */
export class Recording {
  readonly parts: AnswerPart[] = []
  #hasEnded = false
  #hasBegun = false
  /** Of readers that wait for more. */
  readonly #waiting = new Set<() => void>()

  /** One that has ended. */
  static of(parts: readonly AnswerPart[]): Recording {
    const recording = new Recording()
    for (const part of parts) recording.push(part)
    recording.end()
    return recording
  }

  /** A gpu node has accepted the request. */
  begin(): void {
    this.#hasBegun = true
    this.#wakeAll()
  }

  push(part: AnswerPart): void {
    this.parts.push(part)
    this.#wakeAll()
  }

  end(): void {
    this.#hasEnded = true
    this.#wakeAll()
  }

  /** Resolves when it has begun, or has ended without that. */
  async begun(): Promise<void> {
    while (!this.#hasBegun && !this.#hasEnded) await this.#more()
  }

  async *read(): AsyncGenerator<AnswerPart, void> {
    for (let index = 0; ; index++) {
      while (index >= this.parts.length) {
        if (this.#hasEnded) return
        await this.#more()
      }
      const part = this.parts[index]
      if (part !== undefined) yield part
    }
  }

  #more(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve))
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }
}

/** The answer in a recording, as far as one reader has read it. */
export class RecordedAnswer extends PartialAnswer implements GrowingAnswer {
  readonly #recording: Recording

  constructor(recording: Recording, name: string) {
    super(name)
    this.#recording = recording
  }

  begun(): Promise<void> {
    return this.#recording.begun()
  }

  async *parts(): AsyncGenerator<AnswerPart, void> {
    for await (const part of this.#recording.read()) {
      this.add(part)
      yield part
    }
  }
}
