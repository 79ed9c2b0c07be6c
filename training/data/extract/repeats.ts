import { documentOrder, type Part } from './structure.ts'

/** What stands before a fork: the last line, without its number, marks and case. */
export function titleOf(text: string): string {
  const line = text.trim().split('\n').at(-1) ?? ''
  const bare = line.replace(/^[\s#>*•+-]*(?:\d+[.)])?/, '').replace(/[*_:：]/g, '')
  return bare.trim().toLowerCase()
}

/** Whether two titles, or two details, that fork from one branch are the same. */
export function repeatsItself(parts: readonly Part[]): boolean {
  const seen = new Set<string>()
  for (const { text, detail } of parts) {
    if (!detail) continue
    for (const said of [titleOf(text), `detail: ${documentOrder(detail).trim().toLowerCase()}`]) {
      if (said !== '' && seen.has(said)) return true
      seen.add(said)
    }
    if (repeatsItself(detail)) return true
  }
  return false
}
