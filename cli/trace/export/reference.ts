import { AparError } from '../../../shared/errors.ts'
import type { TraceStep } from '../../../shared/protocol/trace.ts'
import { Replay } from '../replay.ts'
import type { TracedTurn, TraceOfQuestion } from '../trace-file.ts'

/** A paragraph of the tree: its own tokens up to a fork, then the detail and the rest of the branch. */
export interface ReferenceNode {
  /** Token positions in the path of the branch `gid`: of the first token, and of the one that ends it, [Fork]. */
  start: number
  gid: number
  termination: number | null
  next: ReferenceNode | null
  detail: ReferenceNode | null
}

/** One turn as fastchat.serve.get_trace of THUDM/APAR has it: an entry of each list for each step. */
export interface ReferenceTurn {
  /** Text in document order; of one prompt, as are `global_root` and `g_to_i`. */
  responses: [string][]
  /** Token ids of the path of each branch, in order of id: prompt, parents' tokens, own tokens. */
  ret_input_ids: number[][][]
  global_root: [ReferenceNode][]
  /** Branches in the batch of the step, and their rows in it. */
  g_to_i: Record<string, number>[]
  /** Seconds since the start. */
  elapse: number[]
  dynamic_bs: number[]
}

export interface ReferenceTrace extends Record<string, unknown> {
  model: string
  traces: ReferenceTurn[]
}

/** A question with its traces. The lists of a turn repeat the whole answer for each step, as the reference does. */
export function toReference({ head, turns }: TraceOfQuestion): ReferenceTrace {
  return { ...head.question, model: head.model, traces: turns.map(toReferenceTurn) }
}

function toReferenceTurn({ begin, steps }: TracedTurn): ReferenceTurn {
  const out: ReferenceTurn = {
    ...{ responses: [], ret_input_ids: [], global_root: [], g_to_i: [], elapse: [], dynamic_bs: [] },
  }
  const prompt = steps.find((step) => step.prompt)?.prompt
  if (!prompt) throw new AparError('invalid_request', 'the trace has no prompt: its stream began elsewhere')
  const replay = new Replay(begin.joints)
  const paths = new Paths(prompt)
  for (const step of steps) {
    replay.advance(step)
    const inBatch = paths.advance(step)
    // Steps of the prompt; the reference does not have the step in which the last branch ends, either.
    if (step.tokens.length === 0 && (step.ends.length === 0 || paths.ended)) continue
    out.responses.push([replay.tree.text()])
    out.ret_input_ids.push(paths.ids.map((path) => [...path]))
    out.global_root.push([structuredClone(paths.root)])
    out.g_to_i.push(Object.fromEntries(inBatch.map((branch, row) => [String(branch), row])))
    out.elapse.push(step.us / 1e6)
    out.dynamic_bs.push(inBatch.length)
  }
  return out
}

/** The token ids of all branches, and the tree of their paragraphs. */
class Paths {
  readonly root: ReferenceNode
  readonly ids: number[][]
  readonly #live = new Set([0])
  /** The paragraph that each branch is writing. */
  readonly #current: Map<number, ReferenceNode>

  constructor(prompt: readonly number[]) {
    this.ids = [[...prompt]]
    this.root = paragraph(prompt.length, 0)
    this.#current = new Map([[0, this.root]])
  }

  get ended(): boolean {
    return this.#live.size === 0
  }

  /** Returns the branches that were in the batch of the step, those that it began among them. */
  advance({ tokens, forks, ends }: TraceStep): number[] {
    const begun = new Set(forks.map(({ branch }) => branch))
    for (const { branch, ids } of tokens) if (!begun.has(branch)) this.ids[branch]?.push(...ids)
    for (const { branch, parent, position } of forks) this.#fork(branch, parent, position)
    for (const { branch, ids } of tokens) if (begun.has(branch)) this.ids[branch]?.push(...ids)
    const inBatch = [...this.#live]
    for (const { branch } of ends) this.#live.delete(branch)
    return inBatch
  }

  #fork(branch: number, parent: number, position: number): void {
    this.ids[branch] = (this.ids[parent] ?? []).slice(0, position + 1)
    this.#live.add(branch)
    // The detail begins behind the forced [Child].
    const [next, detail] = [paragraph(position + 1, parent), paragraph(position + 2, branch)]
    const current = this.#current.get(parent)
    if (current) Object.assign(current, { termination: position, next, detail })
    this.#current.set(parent, next).set(branch, detail)
  }
}

function paragraph(start: number, gid: number): ReferenceNode {
  return { start, gid, termination: null, next: null, detail: null }
}
