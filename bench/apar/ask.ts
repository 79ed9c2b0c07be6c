import type { Runner } from '../../gpu-node/requests/runner.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import { type DoneEvent, errorOf, type FinishReason } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { Speculation, SpeculationUsage } from '../../shared/protocol/speculation.ts'
import type { Prompt } from '../../training/data/prompts/read-prompts.ts'
import type { Repetition } from './sampling.ts'

export const MODES = ['parallel', 'serial'] as const
export type Mode = (typeof MODES)[number]

/** A branch of an answer; the root is the first. `at`: length of the parent's own text before the fork. */
export interface AnswerBranch {
  readonly id: number
  readonly parent: number | null
  readonly at: number
  readonly text: string
  readonly reason: FinishReason
}

export interface Answer {
  /** In document order. */
  readonly text: string
  readonly branches: readonly AnswerBranch[]
  readonly reason: FinishReason
  readonly tokens: number
  /** Of the engine while the answer was made: with one request at a time, those of the answer. */
  readonly steps: number
  readonly wallMs: number
  /** What drafts did for it; undefined when nothing was drafted. */
  readonly speculation: SpeculationUsage | undefined
}

export interface AskOptions {
  readonly mode: Mode
  readonly maxTokens: number
  /** Default: the engine's. */
  readonly speculation?: Speculation | undefined
  /** Default: the model's own. */
  readonly repetition?: Repetition | undefined
}

/** One greedy answer, through the gpu node's own path (template, engine, text) without network. */
export async function ask(
  runner: Runner,
  { messages }: Prompt,
  { mode, maxTokens, speculation, repetition }: AskOptions,
): Promise<Answer> {
  const before = runner.stats().steps
  const begun = performance.now()
  const tree = new BranchTree()
  const { reason, usage } = await new Promise<DoneEvent>((resolve, reject) => {
    const request = {
      model: runner.model,
      messages: [...messages],
      max_tokens: maxTokens,
      temperature: 0,
      branching: { enabled: mode === 'parallel' },
      ...(speculation && { speculation }),
      ...repetition,
    }
    const publish = ({ events }: NodeBatch) => {
      for (const event of events) {
        tree.apply(event)
        if (event.type === 'done') resolve(event)
        if (event.type === 'error') reject(errorOf(event))
      }
    }
    runner.start('bench', request, publish).catch(reject)
  })
  const wallMs = performance.now() - begun
  return {
    text: tree.text(),
    branches: tree
      .branches()
      .map(({ id, parent, at, text, reason: end }) => ({ id, parent, at, text, reason: end ?? reason })),
    reason,
    tokens: usage.completion_tokens,
    steps: runner.stats().steps - before,
    wallMs,
    speculation: usage.apar?.speculation,
  }
}
