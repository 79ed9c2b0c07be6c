import { randomUUID } from 'node:crypto'
import { type Piece, sliced, textOf } from '../../../gpu-node/text/piece.ts'
import { PromptEncoder } from '../../../gpu-node/text/prompt-encoder.ts'
import type { ChatMessage } from '../../../shared/protocol/request.ts'
import type { Conversation, Turn } from '../conversation.ts'
import { documentOrder, type Part } from '../extract/structure.ts'
import type { ModelText } from '../model/model-text.ts'
import { openCachedTokenizer } from './cached-tokenizer.ts'
import type { Example, Segment } from './tree.ts'

/** A conversation up to the question that an answer is learned for. */
export interface Question {
  system?: string
  /** Earlier turns: context that is not learned. */
  earlier?: readonly Turn[]
  prompt: string
}

/**
 * Encodes conversations for training to the tokens that the engine works with: a prompt as the gpu node encodes it, an
 * answer as it goes on from there, up to the token that ends it. Every text is encoded once, whatever the number of
 * branches that see it.
 */
export class ChatEncoder {
  readonly #encoder: PromptEncoder
  readonly #model: ModelText
  /** What the template writes between a generation prompt and the answer. */
  readonly #lead: Piece[]
  /** What it writes behind an answer, through the first token that ends it. */
  readonly #tail: Piece[]
  /** The end of every prompt, from which answers go on. */
  readonly #anchor: Piece[]
  readonly #anchorIds: readonly number[]

  /** @throws StartupError when the model's tokenizer or template is unusable. */
  constructor(model: ModelText) {
    this.#model = model
    const { files, fork, child, eos, vocabSize } = model
    this.#encoder = new PromptEncoder(files, [fork.id, child.id, ...eos], vocabSize, openCachedTokenizer)
    const { question, prompt } = this.#shortPrompt()
    const last = prompt.at(-1)
    this.#anchor = last?.ofTemplate ? [last] : []
    this.#anchorIds = this.#encoder.ids(this.#anchor)
    const mark = newMark()
    const whole = this.#encoder.render([...question, { role: 'assistant', content: mark }], false)
    const text = textOf(whole)
    const at = text.indexOf(mark)
    const before = textOf(prompt)
    this.#lead = text.startsWith(before) && at >= 0 ? sliced(whole, before.length, at) : []
    this.#tail = this.#throughEos(at === -1 ? [] : sliced(whole, at + mark.length, text.length))
  }

  /** Text before the first answer, as the gpu node encodes it. @throws AparError when the template refuses it. */
  prompt({ system, earlier = [], prompt }: Question): number[] {
    return [...this.#encoder.encode(messagesOf(system, earlier, prompt), Number.POSITIVE_INFINITY)]
  }

  structured(question: Question, parts: readonly Part[]): Example {
    const prompt = this.prompt(question)
    const segments: Segment[] = []
    this.#addBranch(segments, -1, prompt, this.#mainIds(this.#ownPieces(parts)), parts)
    return { kind: 'structured', segments }
  }

  /** An answer alone, as the model gives it behind any prompt. */
  answer(parts: readonly Part[]): Segment[] {
    const segments: Segment[] = []
    this.#addBranch(segments, -1, [], this.#mainIds(this.#ownPieces(parts)), parts)
    return segments
  }

  /** The same answer in one branch. */
  serial(question: Question, parts: readonly Part[]): Example {
    const prompt = this.prompt(question)
    const answer = this.#mainIds([text(documentOrder(parts)), ...this.#tail])
    const ids = [...prompt, ...answer]
    return { kind: 'serial', segments: [{ parent: -1, ids, learned: [prompt.length, ids.length] }] }
  }

  /**
   * A conversation in one branch. Turns that would end after `maxTokens` are left out.
   * @param isLearned of the answer with this index; others are context.
   * @returns how many turns are in it, too: 0 when not even the first fits.
   */
  turns(
    { system, dialogs: turns }: Pick<Conversation, 'system' | 'dialogs'>,
    maxTokens: number,
    isLearned: (index: number) => boolean,
  ): { example: Example; turns: number } {
    const segment: Segment = { parent: -1, ids: [], learned: [] }
    const between = turns.length > 1 ? this.#textBetween(system, turns) : []
    let count = 0
    for (const [index, { prompt, response }] of turns.entries()) {
      const context =
        index === 0 ? this.prompt({ ...(system && { system }), prompt }) : (between[index - 1] ?? [])
      const answer = this.#mainIds([text(response), ...this.#tail])
      const start = segment.ids.length + context.length
      if (start + answer.length > maxTokens) break
      segment.ids.push(...context, ...answer)
      if (isLearned(index)) segment.learned.push(start, start + answer.length)
      count += 1
    }
    return { example: { kind: 'unstructured', segments: [segment] }, turns: count }
  }

  /** Adds a branch and, at each fork, the branch that begins there before the text that goes on. */
  #addBranch(
    segments: Segment[],
    parent: number,
    context: readonly number[],
    ids: readonly number[],
    parts: readonly Part[],
  ): void {
    const runs = this.#splitBehindForks(ids)
    const forks = parts.filter(({ detail }) => detail)
    let before = parent
    for (const [index, run] of runs.entries()) {
      const unlearned = index === 0 ? context : []
      const own = [...unlearned, ...run]
      segments.push({ parent: before, ids: own, learned: [unlearned.length, own.length] })
      before = segments.length - 1
      const detail = forks[index]?.detail
      if (detail) this.#addBranch(segments, before, [this.#model.child.id], this.#detailIds(detail), detail)
    }
  }

  /** Some templates want a system message. */
  #shortPrompt(): { question: ChatMessage[]; prompt: Piece[] } {
    const question: ChatMessage[] = [{ role: 'user', content: 'x' }]
    try {
      return { question, prompt: this.#encoder.render(question) }
    } catch {
      const withSystem: ChatMessage[] = [{ role: 'system', content: 'x' }, ...question]
      return { question: withSystem, prompt: this.#encoder.render(withSystem) }
    }
  }

  #splitBehindForks(ids: readonly number[]): number[][] {
    const runs: number[][] = []
    let start = 0
    for (let at = ids.indexOf(this.#model.fork.id); at !== -1; at = ids.indexOf(this.#model.fork.id, start)) {
      runs.push(ids.slice(start, at + 1))
      start = at + 1
    }
    runs.push(ids.slice(start))
    return runs
  }

  /** A branch's own text with its forks, through the end of the sequence. */
  #ownPieces(parts: readonly Part[]): Piece[] {
    const fork: Piece = { text: this.#model.fork.content, ofTemplate: true }
    return [
      ...parts.flatMap((part) => (part.detail ? [text(part.text), fork] : [text(part.text)])),
      ...this.#tail,
    ]
  }

  /** Ids of text that goes on from a prompt. */
  #mainIds(pieces: readonly Piece[]): number[] {
    const whole = this.#encoder.ids([...this.#anchor, ...this.#lead, ...pieces])
    const isPrefix = this.#anchorIds.every((id, index) => whole[index] === id)
    if (isPrefix) return whole.slice(this.#anchorIds.length)
    // The first characters would merge with the prompt's last ones, which are tokens already.
    return this.#behind([this.#model.fork.content], [...this.#lead, ...pieces])
  }

  #detailIds(detail: readonly Part[]): number[] {
    return this.#behind([this.#model.fork.content, this.#model.child.content], this.#ownPieces(detail))
  }

  /** Ids of text behind tokens, which decide about the white space and the prefix that tokenizers add or remove. */
  #behind(tokens: readonly string[], pieces: readonly Piece[]): number[] {
    const before = tokens.map((content) => ({ text: content, ofTemplate: true }))
    return this.#encoder.ids([...before, ...pieces]).slice(tokens.length)
  }

  /** Ids between the end of each answer and the next one. @throws AparError when the template refuses the turns. */
  #textBetween(system: string | undefined, turns: readonly Turn[]): number[][] {
    const marks = turns.map(newMark)
    const messages = turns.flatMap(({ prompt }, index): ChatMessage[] => [
      { role: 'user', content: prompt },
      { role: 'assistant', content: marks[index] ?? '' },
    ])
    const pieces = this.#encoder.render([...systemMessage(system), ...messages], false)
    const whole = textOf(pieces)
    const tail = textOf(this.#tail)
    return marks.slice(1).map((mark, index) => {
      const before = marks[index] ?? ''
      const start = whole.indexOf(before) + before.length
      const afterTail = whole.startsWith(tail, start) ? start + tail.length : start
      // The lead is encoded with the answer.
      const end = whole.indexOf(mark) - textOf(this.#lead).length
      return this.#behind([this.#endOfAnswer()], sliced(pieces, afterTail, end))
    })
  }

  #throughEos(pieces: readonly Piece[]): Piece[] {
    const whole = textOf(pieces)
    const ends = this.#model.eos.map((id) => {
      const content = this.#contentOf(id)
      const at = content === undefined ? -1 : whole.indexOf(content)
      return at === -1 ? Number.POSITIVE_INFINITY : at + (content?.length ?? 0)
    })
    const end = Math.min(...ends)
    return Number.isFinite(end) ? sliced(pieces, 0, end) : [{ text: this.#endOfAnswer(), ofTemplate: true }]
  }

  #endOfAnswer(): string {
    return this.#contentOf(this.#model.eos[0]) ?? ''
  }

  #contentOf(id: number | undefined): string | undefined {
    return this.#model.files.tokenizer.added_tokens.find((token) => token.id === id)?.content
  }
}

function systemMessage(system: string | undefined): ChatMessage[] {
  return system ? [{ role: 'system', content: system }] : []
}

function messagesOf(system: string | undefined, earlier: readonly Turn[], prompt: string): ChatMessage[] {
  const turns = earlier.flatMap((turn): ChatMessage[] => [
    { role: 'user', content: turn.prompt },
    { role: 'assistant', content: turn.response },
  ])
  return [...systemMessage(system), ...turns, { role: 'user', content: prompt }]
}

/** A text that no conversation contains, in the place of an answer. */
function newMark(): string {
  return `\u{F0004}${randomUUID()}\u{F0005}`
}

function text(content: string): Piece {
  return { text: content.toWellFormed(), ofTemplate: false }
}
