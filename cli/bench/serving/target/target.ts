import type { ForcedBranch } from '../../../../shared/protocol/node.ts'
import type { ChatMessage } from '../../../../shared/protocol/request.ts'
import type { ModeOptions } from '../modes.ts'
import type { ReceivedAnswer } from './answer.ts'

/** One request, whatever the API. */
export interface BenchRequest {
  readonly model: string
  readonly messages: readonly ChatMessage[]
  readonly maxTokens: number
  /** The answer is not to end before `maxTokens`. */
  readonly fixedLength: boolean
  readonly temperature: number
  readonly seed: number
  /** Options of apar; undefined sends none of them. */
  readonly mode: ModeOptions | undefined
  /** Servers of apar only: ask what each step of the engine did. */
  readonly trace?: boolean | undefined
  /** What the answer is, for a gpu node that takes that. */
  readonly forced?: readonly ForcedBranch[] | undefined
}

/** What is measured. */
export interface Target {
  /** Fills `answer` while it arrives. @throws RequestFailed */
  ask(request: BenchRequest, answer: ReceivedAnswer): Promise<void>
  close(): void
}
