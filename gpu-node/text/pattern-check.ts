import { Tokenizer } from '@huggingface/tokenizers'
import { PRE_TOKENIZERS, SENTENCEPIECE_WORDS } from '../checkpoint/tokenizer/pre-tokenizers.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'

/** A pattern that needs time in the square of this takes seconds, one that needs exponential time for ever. */
const LONG = 20_000
/** Characters of the classes that patterns of tokenizers tell apart. */
const CHARACTERS = ['a', 'A', '0', ' ', '\n', '\t', '!', "'", '-', '_', '▁', 'é', '中', '\u0301', '🙂']

/** Those of the well-known vocabularies; a test runs them. */
const KNOWN_PATTERNS: ReadonlySet<string> = new Set(
  [...PRE_TOKENIZERS.values()].flatMap(({ patterns }) => patterns).concat(SENTENCEPIECE_WORDS),
)

interface Component {
  readonly where: 'normalizer' | 'pre_tokenizer'
  readonly config: object
  readonly pattern: string
}

/**
 * Runs each regular expression of a tokenizer on texts that make patterns with nested or overlapping repetitions
 * backtrack, but for the `known` ones. Returns when all came to an end: the caller limits the time. `onCheck` hears what
 * is run next.
 * @throws StartupError `unsupported_checkpoint` for a pattern that is none.
 */
export function checkPatterns(
  { tokenizer, file }: Pick<TokenizerFiles, 'tokenizer' | 'file'>,
  onCheck: (what: string) => void,
  known: ReadonlySet<string> = KNOWN_PATTERNS,
): void {
  for (const where of ['normalizer', 'pre_tokenizer'] as const) {
    for (const component of components(where, tokenizer[where])) {
      if (known.has(component.pattern)) continue
      const name = `${file}: ${where}: the pattern ${JSON.stringify(component.pattern)}`
      onCheck(name)
      const run = openComponent(component, name)
      for (const [what, text] of adversarialTexts(component.pattern)) {
        onCheck(`${name} on ${what}`)
        run(text)
      }
    }
  }
}

/** The library's own form of the pattern, alone: without the rest of the tokenizer. */
function openComponent({ where, config }: Component, name: string): (text: string) => void {
  const model = { type: 'BPE', vocab: {}, merges: [], unk_token: null, ignore_merges: true }
  const parts = {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    added_tokens: [],
  }
  try {
    const component = new Tokenizer({ ...parts, model, [where]: config }, {})[where]
    return (text) => void component?.(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StartupError('unsupported_checkpoint', `${name}: ${reason}`, cause)
  }
}

function* components(where: Component['where'], config: unknown): Generator<Component> {
  if (typeof config !== 'object' || config === null) return
  if ('pattern' in config && typeof config.pattern === 'object' && config.pattern !== null) {
    if ('Regex' in config.pattern) yield { where, config, pattern: String(config.pattern.Regex) }
    return
  }
  for (const child of Array.isArray(config) ? config : Object.values(config)) yield* components(where, child)
}

/** Runs of one and of two kinds of characters, each alone and with an end that no repetition of them matches. */
function* adversarialTexts(pattern: string): Generator<[what: string, text: string]> {
  const literals = [...pattern].filter((character) => !/[\\^$.*+?()[\]{}|]/.test(character))
  const characters = [...new Set([...CHARACTERS, ...literals])].slice(0, 64)
  const units = [...characters, ...characters.map((character) => `a${character}`), ...longWords(pattern)]
  for (const unit of units) {
    const run = unit.repeat(LONG / unit.length)
    // The end is one that a negated class or a word does not contain, either way.
    for (const end of ['', '\u0000']) yield [`a long run of ${JSON.stringify(unit)}`, run + end]
  }
}

/** Literal words of a pattern, which may repeat as a whole. */
function longWords(pattern: string): string[] {
  return [...new Set(pattern.match(/[A-Za-z]{2,}/g))].slice(0, 16)
}
