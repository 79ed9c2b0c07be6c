import type { ChatMessage } from '../../shared/protocol/request.ts'

type Call = NonNullable<ChatMessage['tool_calls']>[number]

/** Names calls of a conversation whose server gave them no ids. */
export class CallIds {
  #nameless = 0

  call(id: string | undefined, name: string, args: string): Call {
    return { id: id || `call_${this.#nameless++}`, name, arguments: args }
  }
}
