import type { Checkpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import type { ForcedBranch } from '../../shared/protocol/node.ts'
import { ChatEncoder } from '../../training/data/encode/chat-encoder.ts'
import type { Segment } from '../../training/data/encode/tree.ts'
import { extract } from '../../training/data/extract/extract.ts'
import type { ModelText } from '../../training/data/model/model-text.ts'
import { UserError } from '../explain.ts'

/** Turns published answers into what a gpu node is made to answer: branches fork where training data would have them. */
export class AnswerForcer {
  readonly #encoder: ChatEncoder
  readonly #text: ModelText

  /** @throws UserError `invalid_option` for a model that cannot fork. */
  constructor(checkpoint: Pick<Checkpoint, 'name' | 'text' | 'tokens' | 'shape'>) {
    this.#text = modelTextOf(checkpoint)
    this.#encoder = new ChatEncoder(this.#text)
  }

  /** The branches of an answer. What training data would leave out, or not fork, is one branch. */
  force(answer: string): ForcedBranch[] {
    const extracted = extract(answer)
    const parts = 'structure' in extracted ? extracted.structure.parts : [{ text: answer }]
    return branchesOf(this.#encoder.answer(parts), this.#text)
  }
}

function modelTextOf({ name, text, tokens, shape }: Pick<Checkpoint, 'name' | 'text' | 'tokens' | 'shape'>) {
  const control = (id: number | undefined) => {
    const content = text.tokenizer.added_tokens.find((token) => token.id === id)?.content
    if (id === undefined || content === undefined)
      throw new UserError('invalid_option', `--model: ${name} has no [Fork] and [Child]: it cannot fork`)
    return { id, content }
  }
  return {
    ...{ files: text, fork: control(tokens.fork), child: control(tokens.child), bos: undefined },
    ...{ eos: [...tokens.eos], vocabSize: shape.vocabSize, contextTokens: shape.contextTokens },
  }
}

/** A segment that begins with [Child] begins a branch; others go on with that of their parent. Ends are left out. */
export function branchesOf(
  segments: readonly Segment[],
  { child, eos }: Pick<ModelText, 'child' | 'eos'>,
): ForcedBranch[] {
  const branches: ForcedBranch[] = []
  const branchOf: number[] = []
  for (const { parent, ids } of segments) {
    const above = branchOf[parent]
    const begins = above === undefined || ids[0] === child.id
    const index = begins ? branches.push({ parent: above ?? -1, tokens: [] }) - 1 : above
    branchOf.push(index)
    const end = ids.findIndex((id) => eos.includes(id))
    const tokens = branches[index]?.tokens
    for (const id of end === -1 ? ids : ids.slice(0, end)) tokens?.push(id)
  }
  return branches
}
