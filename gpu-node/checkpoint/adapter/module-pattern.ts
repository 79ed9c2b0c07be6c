/** Whether a module's whole name matches. */
export type ModulePattern = (module: string) => boolean

/**
 * Plain characters, groups and alternatives; only single characters are repeated. With few groups and repetitions,
 * matching the name of a module ends soon, whatever a file asks for.
 */
const EVALUATED = /^(?:[\w^$|(-]|\)\??|\\\.|(?:\.|\\d|\\w|\[0-9\])[*+]?)*$/
const MAX_CHARS = 256
const MAX_REPETITIONS = 4
const MAX_GROUPS = 4

/** A regular expression of Python for the names of modules; undefined for one that is not evaluated here. */
export function modulePattern(source: string): ModulePattern | undefined {
  const count = (characters: RegExp) => source.match(characters)?.length ?? 0
  if (source.length > MAX_CHARS || count(/[*+?]/g) > MAX_REPETITIONS || count(/\(/g) > MAX_GROUPS)
    return undefined
  if (!EVALUATED.test(source)) return undefined
  try {
    const expression = new RegExp(`^(?:${source})$`)
    return (module) => expression.test(module)
  } catch {
    return undefined
  }
}
