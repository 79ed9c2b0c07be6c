import type { Conversation } from '../conversation.ts'
import { extractList } from './lists.ts'
import { extractParagraphs } from './paragraphs.ts'
import type { Extraction, Rule } from './structure.ts'

/** Special tokens spelt out in a text: the tokenizer would take them for the real ones. */
const MARKER = /\[(Fork|Child)\]|<\/?s>|<unk>/
const CJK = /[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]/

/** Text that the rules refuse before they look for structure, in the order in which they are tried. */
const REFUSED: readonly [Rule, RegExp][] = [
  ['cjk', CJK],
  ['code_fence', /```/],
  ['maths', /\$\$/],
  ['angle_bracket', /[<>]/],
  ['equals', /=/],
  ['rule_line', /---/],
  ['link', /http/],
]

/** Refused answers that still teach something as they are: code, maths, markup, and text with no structure at all. */
const KEPT_WHOLE: ReadonlySet<Rule> = new Set<Rule>([
  'code_fence',
  'maths',
  'angle_bracket',
  'equals',
  'rule_line',
  'link',
  'paragraphs_too_few',
])

/** What the rules refuse in a text, or undefined. Sources use it to leave out what would be dropped later. */
export function refusedBy(text: string): Rule | undefined {
  return REFUSED.find(([, pattern]) => pattern.test(text))?.[0]
}

/** The structure of a conversation's first answer, or the rule that refuses it. Only the first turn counts. */
export function extract(conversation: Conversation): Extraction {
  const turn = conversation.dialogs[0]
  if (!turn) return { rule: 'no_turn' }
  if (turn.response.trim() === '') return { rule: 'empty_answer' }
  if (conversation.dialogs.some(({ prompt, response }) => MARKER.test(prompt) || MARKER.test(response))) {
    return { rule: 'marker' }
  }
  const refused = refusedBy(turn.response)
  if (refused) return { rule: refused }
  const list = extractList(turn.response)
  if (list && 'structure' in list) return list
  const paragraphs = extractParagraphs(turn.response)
  if ('structure' in paragraphs) return paragraphs
  // An answer that looks like a list is reported, and dropped, as a list: kept whole it would teach not to fork.
  return list ?? paragraphs
}

/** Whether a refused conversation goes to unstructured.json; else it is dropped. */
export function keptWhole(rule: Rule): boolean {
  return KEPT_WHOLE.has(rule)
}
