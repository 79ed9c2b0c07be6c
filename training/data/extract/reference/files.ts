import type { Conversation } from '../../conversation.ts'
import { type Row, type UnstructuredRow, unstructuredRow } from '../../rows.ts'
import { isUnstructured, leftOutBy, parseTurn, type ReferenceTurn } from './dialogs.ts'
import { MASK } from './lists.ts'
import { jsonArray } from './python.ts'
import { pythonShuffle } from './random.ts'

const STREAM_START = '[SplitSop]'
const SEED = 100
const TEST_SHARE = 0.12

interface ParsedConversation {
  id: string
  dialog: ReferenceTurn[]
}

/** The texts of the reference's files, in pieces. */
export interface ReferenceFiles {
  /** filter_structured.py: every conversation with a turn that could fork. */
  'parsed.json': Iterable<string>
  /** as_apar_format.py: those whose first turn could fork, shuffled and split. */
  'train.json': Iterable<string>
  'apar_testset.json': Iterable<string>
  'apar.json': Iterable<string>
  /** The script calls this file orig.json. */
  'apar_flatten.json': Iterable<string>
  /** get_unstructured.py. */
  'unstructured.json': Iterable<string>
}

/**
 * The files that the reference's scripts write for these conversations (one file as both of their inputs), byte for
 * byte. All conversations are held in memory, because the order of the files is a shuffle of all of them.
 */
export function referenceFiles(
  conversations: readonly Conversation[],
  testShare = TEST_SHARE,
): ReferenceFiles {
  // Of conversations with the same id the last one counts, in the place of the first.
  const turns = new Map(conversations.map(({ id, dialogs }) => [id, dialogs]))
  const parsed: ParsedConversation[] = []
  for (const [id, dialogs] of turns) {
    const dialog = dialogs.map((turn) => parseTurn(turn).turn)
    if (dialog.some(({ forkable }) => forkable)) parsed.push({ id, dialog })
  }
  const shuffled = parsed.filter(({ dialog }) => dialog[0]?.forkable)
  pythonShuffle(shuffled, SEED)
  const testSize = Math.trunc(shuffled.length * testShare)
  // items[:-0] is empty: a test set of none takes all.
  const trainSize = testSize === 0 ? 0 : shuffled.length - testSize
  const train = shuffled.slice(0, trainSize)
  const parsedIds = new Set(parsed.map(({ id }) => id))
  return {
    'parsed.json': jsonArray(parsed, false),
    'train.json': jsonArray(train, false),
    'apar_testset.json': jsonArray(shuffled.slice(trainSize), false),
    'apar.json': jsonArray(branchRows(train), false),
    'apar_flatten.json': jsonArray(flatRows(train), false),
    'unstructured.json': jsonArray(unstructuredRows(conversations, parsedIds), true),
  }
}

function* packed(conversations: readonly ParsedConversation[]) {
  for (const { id, dialog } of conversations) {
    const [turn] = dialog
    if (!turn?.forkable || leftOutBy(turn.reassembled_response)) continue
    const texts = turn.response.split(MASK)
    // Here the reference stops with an error: the answer spells out its token.
    if (texts.length === turn.streams.length + 1) yield { id, turn, texts }
  }
}

function* branchRows(conversations: readonly ParsedConversation[]): Generator<Row> {
  for (const { id, turn, texts } of packed(conversations)) {
    yield { index: `${id}_main`, input: turn.prompt, target: turn.response }
    let path = ''
    for (const [index, stream] of turn.streams.entries()) {
      path += texts[index] + MASK
      yield { index: `${id}_${index}`, input: turn.prompt, target: path + STREAM_START + stream }
    }
  }
}

function* flatRows(conversations: readonly ParsedConversation[]): Generator<Row> {
  for (const { id, turn } of packed(conversations)) {
    yield { index: id, input: turn.prompt, target: turn.reassembled_response }
  }
}

function* unstructuredRows(
  conversations: readonly Conversation[],
  parsedIds: ReadonlySet<string>,
): Generator<UnstructuredRow> {
  for (const conversation of conversations) {
    const [turn] = conversation.dialogs
    if (turn && isUnstructured(turn.response) && !parsedIds.has(conversation.id))
      yield unstructuredRow(conversation)
  }
}
