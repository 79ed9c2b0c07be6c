import { AparError } from '../../../shared/errors.ts'
import { badLine, type Conversation, type Turn } from '../conversation.ts'
import { ChatEncoder, type Question } from '../encode/chat-encoder.ts'
import { type Example, longestPath, tokenCount } from '../encode/tree.ts'
import { extract, extractConversation } from '../extract/extract.ts'
import { countForks, depthOf, type Part, type Structure } from '../extract/structure.ts'
import { wholePart } from '../extract/whole-part.ts'
import {
  FAULTS,
  type Fault,
  hasLoneSurrogate,
  toConversation,
  withoutEmptyTurns,
} from '../input/conversations.ts'
import type { ModelText } from '../model/model-text.ts'
import { hashText } from '../random.ts'
import { flatRow, rowCharacters, structuredRows, unstructuredRow } from '../rows.ts'
import { ExampleEncoder } from '../shards/encoded.ts'
import {
  type Batch,
  type BatchResult,
  type BuildPlan,
  type RecordPlace,
  SPLITS,
  type Split,
} from './batch.ts'
import { type Counts, increment, type LeftOut, noCounts, reasonOf } from './counts.ts'
import { exportedRows } from './exported-rows.ts'
import { TextOutputs } from './text-outputs.ts'

/** The reference's. */
export const TEST_SHARE = 0.12
/** UTF-16 code units of all rows of a conversation together: rows grow with the square of the answer. */
const MAX_ROWS_LENGTH = 16 << 20

/** A line of examples.jsonl: a conversation of which something was kept. It is as long as the conversation. */
export interface ExampleLine {
  id: string
  kind: Structure['kind'] | 'unstructured'
  split: Split
  system?: string
  /** With --turns all: what comes before the prompt of a structured answer in a later turn. */
  earlier?: readonly Turn[]
  prompt: string
  /** Structured only. */
  parts?: Part[]
  /** Unstructured only: all turns. */
  turns?: Turn[]
}

/** Makes of records what a build writes. */
export class Processor {
  readonly #plan: BuildPlan
  readonly #model: ModelText
  readonly #encoder: ChatEncoder
  #files = new TextOutputs()
  #counts: Counts = noCounts()
  #splits: Record<Split, ExampleEncoder>

  constructor(plan: BuildPlan, model: ModelText) {
    this.#plan = plan
    this.#model = model
    this.#encoder = new ChatEncoder(model)
    this.#splits = this.#noExamples()
  }

  /** @throws AparError with file and line for a record that is no conversation; for any fault when strict. */
  process({ bytes, records }: Batch): BatchResult {
    this.#files = new TextOutputs()
    this.#counts = noCounts()
    this.#splits = this.#noExamples()
    for (const record of records) {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset + record.offset, record.length).toString()
      this.#record(record, text)
    }
    const [train, test] = SPLITS.map((split) => this.#splits[split].take())
    if (!train || !test) throw new Error('no splits')
    return { files: this.#files.take(), splits: { train, test }, counts: this.#counts }
  }

  #noExamples(): Record<Split, ExampleEncoder> {
    const { vocabSize } = this.#model
    return { train: new ExampleEncoder(vocabSize), test: new ExampleEncoder(vocabSize) }
  }

  #record(place: RecordPlace, text: string): void {
    this.#counts.conversations += 1
    if (place.fault) {
      this.#fault(place, place.fault)
      this.#refuse(place, place.fault)
      return
    }
    const fail = (reason: string): never => {
      throw badLine(place.file, place.line, reason)
    }
    const whole = toConversation(JSON.parse(text), place.id, fail)
    if (hasLoneSurrogate(whole)) {
      this.#fault(place, 'lone_surrogate')
      this.#refuse(place, 'lone_surrogate')
      return
    }
    const read = withoutEmptyTurns(whole)
    for (const fault of read.faults) this.#fault(place, fault)
    const { faults: _counted, cutOff, ...given } = read
    const conversation = cutOff ? this.#trimmed(given) : given
    if (!conversation) {
      this.#refuse(place, 'cut_off')
      return
    }
    if (conversation.dialogs.length === 0) {
      this.#fault(place, 'no_turn')
      this.#refuse(place, 'no_turn')
      return
    }
    try {
      this.#conversation(place, conversation)
    } catch (error) {
      // What the chat template says of the conversation.
      if (!(error instanceof AparError) || error.param !== 'messages') throw error
      this.#refuse(place, 'template', error.message)
    }
  }

  /** A conversation whose last answer did not end by itself, with the part of it that can stand. */
  #trimmed(conversation: Conversation): Conversation | undefined {
    const { prompt, response } = conversation.dialogs.at(-1) ?? {}
    if (!this.#plan.profile.trimCutOff || prompt === undefined || response === undefined) return undefined
    const part = wholePart(response)
    if (part === undefined) return undefined
    return { ...conversation, dialogs: [...conversation.dialogs.slice(0, -1), { prompt, response: part }] }
  }

  #conversation(place: RecordPlace, conversation: Conversation): void {
    const { seed, testShare, turns, profile, heldOut } = this.#plan
    const { dialogs } = conversation
    const [first] = dialogs
    if (!first) return
    const split = heldOut
      ? heldOut.has(conversation.id)
        ? 'test'
        : 'train'
      : splitOf(conversation.group ?? first.prompt, seed, testShare)
    const extraction = extractConversation(conversation, profile)
    if ('structure' in extraction) this.#structured(place, conversation, split, extraction.structure, 0)
    else {
      increment(this.#counts.refused, extraction.rule)
      if (extraction.keep) this.#unstructured(place, conversation, split)
      else this.#leaveOut(place, extraction.rule)
    }
    if (turns === 'first') return
    for (const [index, { response }] of dialogs.entries()) {
      const later = index === 0 ? undefined : extract(response, profile)
      if (later && 'structure' in later) this.#structured(place, conversation, split, later.structure, index)
    }
  }

  /** `turn`: index of the structured answer. */
  #structured(
    place: RecordPlace,
    { id: conversationId, system, dialogs }: Conversation,
    split: Split,
    structure: Structure,
    turn: number,
  ): void {
    const { context } = this.#plan
    const id = turn === 0 ? conversationId : `${conversationId}/turn-${turn + 1}`
    const earlier = dialogs.slice(0, turn)
    const prompt = dialogs[turn]?.prompt ?? ''
    const { kind, parts } = structure
    const question: Question = { prompt, ...(system && { system }), ...(turn > 0 && { earlier }) }
    const tree = this.#encoder.structured(question, parts)
    const isLong = longestPath(tree.segments) > context
    if (isLong || rowCharacters(structure) > MAX_ROWS_LENGTH) {
      this.#refuse({ ...place, id }, isLong ? 'over_context' : 'rows_too_large')
      return
    }
    this.#example(tree, split, place.source)
    const serial = this.#encoder.serial(question, parts)
    if (tokenCount(serial.segments) <= context) this.#example(serial, split, place.source, false)
    else this.#counts.serialTooLong += 1
    increment(this.#counts.structured, kind)
    increment(this.#counts.depths, String(depthOf(parts)))
    this.#counts.branches += countForks(parts)
    this.#keep(split, { id, kind, split, ...question, parts })
    // Rows have no place for earlier turns.
    if (split === 'test' || turn > 0 || this.#plan.heldOut) return
    const conversation = { id, dialogs }
    for (const row of structuredRows(conversation, structure)) this.#files.add('apar.json', row)
    this.#files.add('apar_flatten.json', flatRow(conversation, structure))
  }

  #unstructured(place: RecordPlace, conversation: Conversation, split: Split): void {
    const { context, profile } = this.#plan
    const { id, system, dialogs } = conversation
    const { example, turns } = this.#encoder.turns(conversation, context, (index) => {
      // A later answer that would fork, or is refused as a list, would teach not to fork.
      if (index === 0 || profile.name === 'reference') return true
      const extraction = extract(dialogs[index]?.response ?? '', profile)
      return 'rule' in extraction && extraction.keep
    })
    if (turns === 0) {
      this.#refuse(place, 'over_context')
      return
    }
    if (turns < dialogs.length) this.#counts.turnsCut += 1
    this.#example(example, split, place.source)
    this.#counts.unstructured += 1
    const prompt = dialogs[0]?.prompt ?? ''
    this.#keep(split, { id, kind: 'unstructured', split, ...(system && { system }), prompt, turns: dialogs })
    if (split === 'train' && !this.#plan.heldOut)
      this.#files.add('unstructured.json', unstructuredRow(conversation))
  }

  #example(example: Example, split: Split, source: number, exported = this.#plan.jsonl): void {
    this.#splits[split].add(example, source)
    if (!exported) return
    const file = split === 'train' ? 'train.jsonl' : 'test.jsonl'
    for (const row of exportedRows(example)) this.#files.add(file, row)
  }

  #keep(split: Split, line: ExampleLine): void {
    this.#files.add('examples.jsonl', line)
    if (split === 'train') return
    if (!this.#plan.heldOut)
      this.#files.add('apar_testset.json', { id: line.id, kind: line.kind, prompt: line.prompt })
    this.#counts.heldOut.all += 1
    if (line.parts) this.#counts.heldOut.structured += 1
  }

  #refuse(place: RecordPlace, rule: LeftOut, why?: string): void {
    increment(this.#counts.refused, rule)
    this.#leaveOut(place, rule, why)
  }

  #leaveOut({ id, file, line }: RecordPlace, rule: LeftOut, why?: string): void {
    this.#counts.leftOut += 1
    this.#files.add('refused.jsonl', { id, rule, reason: why ?? reasonOf(rule), file, line })
  }

  #fault({ file, line }: RecordPlace, fault: Fault): void {
    if (this.#plan.strict) throw badLine(file, line, FAULTS[fault])
    increment(this.#counts.faults, fault)
  }
}

/**
 * The split is by group, not by conversation: other phrasings of a held-out question would reveal its answer in
 * training.
 */
export function splitOf(group: string, seed: number, share = TEST_SHARE): Split {
  return hashText(`${seed}:${group}`) / 2 ** 32 < share ? 'test' : 'train'
}
