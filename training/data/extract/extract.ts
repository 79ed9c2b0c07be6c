import type { Conversation } from '../conversation.ts'
import { extractList } from './lists.ts'
import { extractParagraphs } from './paragraphs.ts'
import type { Extraction, Rule } from './structure.ts'

/** Special tokens written as text: the tokenizer would encode them as special tokens. */
const MARKER = /\[(Fork|Child)\]|<\/?s>|<unk>/
const CJK = /[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]/

/** Patterns of text that is refused before the search for structure, in the order in which they are tried. */
const REFUSED: readonly [Rule, RegExp][] = [
  ['cjk', CJK],
  ['code_fence', /```/],
  ['maths', /\$\$/],
  ['angle_bracket', /[<>]/],
  ['equals', /=/],
  ['rule_line', /---/],
  ['link', /http/],
]

/**
 * Answers refused by these rules are still used as unstructured training data: code, maths, markup, and text
 * without structure.
 */
const KEPT_AS_UNSTRUCTURED: ReadonlySet<Rule> = new Set<Rule>([
  'code_fence',
  'maths',
  'angle_bracket',
  'equals',
  'rule_line',
  'link',
  'paragraphs_too_few',
])

/** The first rule that refuses a text, or undefined. Sources use it to leave out text that would be refused later. */
export function refusedBy(text: string): Rule | undefined {
  return REFUSED.find(([, pattern]) => pattern.test(text))?.[0]
}

/** The structure of a conversation's first answer, or the rule that refuses it. Later turns are ignored. */
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
  // A list that is refused must be dropped by its list rule: kept as unstructured, it would teach the model not
  // to fork.
  return list ?? paragraphs
}

/** Whether a refused conversation is written to unstructured.json; otherwise it is dropped. */
export function keptAsUnstructured(rule: Rule): boolean {
  return KEPT_AS_UNSTRUCTURED.has(rule)
}
