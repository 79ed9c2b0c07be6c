import type { CompletionUsage } from '../../../shared/openai.ts'
import type { Usage } from '../../../shared/protocol/events.ts'
import { sumSpeculation } from '../../../shared/protocol/speculation.ts'

/** What the usage of other APIs has beside their own fields; empty when nothing was drafted. */
export function aparUsage(usages: readonly Usage[]): Pick<CompletionUsage, 'apar'> {
  const speculation = sumSpeculation(usages.map(({ apar }) => apar?.speculation))
  return speculation ? { apar: { speculation } } : {}
}
