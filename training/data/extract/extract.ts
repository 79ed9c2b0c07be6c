import type { Conversation } from '../conversation.ts'
import { hasMarker, refusedBy } from './filters.ts'
import { type Fork, ForkFinder, partsOf } from './forks.ts'
import { linesOf } from './lines.ts'
import { paragraphForks } from './paragraphs.ts'
import { PROFILES, type Profile } from './profile.ts'
import { referenceConversation, referenceExtraction } from './reference/extraction.ts'
import { repeatsItself } from './repeats.ts'
import type { Extraction, Structure } from './structure.ts'

/**
 * The structure of an answer, or the rule that refuses it: sections and lists with titles, or else paragraphs. Time
 * is linear in the answer. In the profile `default` the parts in document order are the answer, byte for byte.
 */
export function extract(answer: string, profile: Profile = PROFILES.default): Extraction {
  if (answer.trim() === '') return { rule: 'empty_answer', keep: false }
  if (hasMarker(answer)) return { rule: 'marker', keep: false }
  if (profile.name === 'reference') return referenceExtraction(answer)
  const refused = refusedBy(answer, profile)
  if (refused) return refused
  const lines = linesOf(answer)
  const finder = new ForkFinder(answer, lines, profile)
  const forks = finder.find()
  // Where the numbers are wrong, so may be the place of a fork.
  if (finder.refused.includes('list_numbering')) return { rule: 'list_numbering', keep: false }
  if (forks.length > 0) return structured(answer, forks, profile)
  const [listRule] = finder.refused
  if (listRule === 'code_fence' || lines.some(({ code }) => code)) return { rule: 'code_fence', keep: true }
  if (profile.paragraphs) {
    const paragraphs = paragraphForks(answer, lines, profile)
    if (Array.isArray(paragraphs)) return structured(answer, paragraphs, profile)
    if (!listRule) return paragraphs
  }
  // Kept as unstructured, what looks like a list would teach not to fork lists.
  return listRule ? { rule: listRule, keep: false } : { rule: 'no_structure', keep: true }
}

/** The structure of a conversation's first answer, or the rule that refuses the conversation. */
export function extractConversation(
  { dialogs }: Pick<Conversation, 'dialogs'>,
  profile: Profile = PROFILES.default,
): Extraction {
  const [turn] = dialogs
  if (!turn) return { rule: 'no_turn', keep: false }
  if (dialogs.some(({ prompt, response }) => hasMarker(prompt) || hasMarker(response))) {
    return { rule: 'marker', keep: false }
  }
  return profile.name === 'reference' ? referenceConversation(dialogs) : extract(turn.response, profile)
}

function structured(answer: string, forks: readonly Fork[], { repeats }: Profile): Extraction {
  const parts = partsOf(answer, 0, answer.length, forks)
  if (repeats !== 'allow' && repeatsItself(parts)) return { rule: 'repeats', keep: repeats === 'keep' }
  return { structure: { kind: mainKind(forks), parts } }
}

/** The kind of most forks at the top level; of the first one where two are as many. */
function mainKind(forks: readonly Fork[]): Structure['kind'] {
  const counts = new Map<Structure['kind'], number>()
  for (const { kind } of forks) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  const [most] = [...counts].sort(([, a], [, b]) => b - a)
  return most?.[0] ?? 'list'
}
