import type { Conversation } from '../conversation.ts'
import { extractList } from './lists.ts'
import { extractParagraphs } from './paragraphs.ts'
import { PROFILES, type Profile } from './profile.ts'
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

/** The structure of one answer, or the rule that refuses it. */
export function extract(answer: string, _profile: Profile = PROFILES.default): Extraction {
  if (answer.trim() === '') return { rule: 'empty_answer', keep: false }
  if (MARKER.test(answer)) return { rule: 'marker', keep: false }
  const refused = refusedBy(answer)
  if (refused) return { rule: refused, keep: KEPT_AS_UNSTRUCTURED.has(refused) }
  const list = extractList(answer)
  if (list && 'structure' in list) return list
  const paragraphs = extractParagraphs(answer)
  if ('structure' in paragraphs) return paragraphs
  // A list that is refused must be dropped by its list rule: kept as unstructured, it would teach the model not
  // to fork.
  return list ?? paragraphs
}

/** The structure of a conversation's first answer, or the rule that refuses the conversation. */
export function extractConversation(
  { dialogs }: Pick<Conversation, 'dialogs'>,
  profile: Profile = PROFILES.default,
): Extraction {
  const [turn] = dialogs
  if (!turn) return { rule: 'no_turn', keep: false }
  if (dialogs.some(({ prompt, response }) => MARKER.test(prompt) || MARKER.test(response))) {
    return { rule: 'marker', keep: false }
  }
  return extract(turn.response, profile)
}
