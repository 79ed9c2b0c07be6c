import { AparError } from '../../shared/errors.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'

/** Answers the messages; undefined when there is no answer to go on from. */
export type Ask = (messages: readonly ChatMessage[]) => Promise<string | undefined>

/** The messages of a conversation, and what fits of them into the model's context. */
export class Conversation {
  system: string | undefined
  #messages: ChatMessage[] = []

  get isEmpty(): boolean {
    return this.#messages.length === 0
  }

  clear(): void {
    this.#messages = []
  }

  /**
   * Asks a question. Where the conversation is too long for the model, its oldest question and answer are left out for
   * good, and `onLeftOut` is told of how many messages.
   * @throws what `ask` throws; the question then is not part of the conversation.
   */
  async ask(question: string, ask: Ask, onLeftOut: (messages: number) => void): Promise<void> {
    const user: ChatMessage = { role: 'user', content: question }
    let leftOut = 0
    for (;;) {
      try {
        const text = await ask([...this.#instructions(), ...this.#messages, user])
        // Without an answer the question goes, too, so that user and assistant messages alternate.
        if (text !== undefined) this.#messages.push(user, { role: 'assistant', content: text })
        return
      } catch (error) {
        const isTooLong = error instanceof AparError && error.code === 'context_length_exceeded'
        if (!isTooLong || this.isEmpty) throw error
        leftOut += this.#messages.splice(0, 2).length
        onLeftOut(leftOut)
      }
    }
  }

  /** Takes the last question and its answer back. Returns the question. */
  takeBack(): string | undefined {
    const [question] = this.#messages.splice(-2)
    return typeof question?.content === 'string' ? question.content : undefined
  }

  #instructions(): ChatMessage[] {
    return this.system === undefined ? [] : [{ role: 'system', content: this.system }]
  }
}
