import fc from 'fast-check'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Edge cases as JSON text, including text that JSON.stringify would not produce. */
const EDGE_CASES = [
  'null',
  'true',
  '""',
  '[]',
  '{}',
  '-1',
  '-0',
  '0.5',
  '1e308',
  '1e999',
  '2147483648',
  '4294967296',
  '9007199254740993',
  '"\\u0000"',
  '"\\ud800"',
  '"__proto__"',
  '"constructor"',
  '"[Fork]</s>[Child]<s>"',
  '"{{ bos_token }}{% for x in y %}"',
  '"\u202e\u0301👩‍👩‍👧"',
  JSON.stringify('x'.repeat(5_000)),
  '{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}}',
  '['.repeat(2_000) + ']'.repeat(2_000),
] as const

const KEYS = ['__proto__', 'constructor', 'toString', 'length', '', 'type', 'n', 'extra', '\u0000']

interface Edit {
  /** Index of the place in the tree, modulo the number of places. */
  readonly place: number
  readonly how: 'replace' | 'remove' | 'rename' | 'repeat' | 'wrap'
  readonly value: string
  readonly key: string
}

const value = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...EDGE_CASES) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }).map((json) => JSON.stringify(json)) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }).map((text) => JSON.stringify(text)) },
  { weight: 1, arbitrary: fc.double().map((number) => JSON.stringify(number)) },
)

const edit: fc.Arbitrary<Edit> = fc.record({
  place: fc.nat({ max: 60 }),
  how: fc.constantFrom('replace', 'replace', 'remove', 'rename', 'repeat', 'wrap'),
  value,
  key: fc.constantFrom(...KEYS),
})

/** An edit of the text itself: deletes or inserts characters. */
const textEdit = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  cut: fc.constantFrom(0, 0, 1, 3, 1_000_000),
  insert: fc.oneof(fc.constantFrom('', '"', '}', ',', '\\', '\u0000', '\ufeff', '\ud800'), fc.string()),
})

/**
 * One of the examples with up to four edits of the tree, and sometimes an edit of the text: input that is almost
 * valid.
 */
export function mutated(examples: readonly object[]): fc.Arbitrary<string> {
  return fc
    .tuple(
      fc.constantFrom(...examples),
      fc.array(edit, { maxLength: 4 }),
      fc.option(textEdit, { freq: 4, nil: undefined }),
    )
    .map(([example, edits, edited]) => {
      const holes: string[] = []
      let tree = structuredClone(example) as Json
      for (const one of edits) tree = apply(tree, one, holes)
      const text = fill(JSON.stringify(tree), holes)
      if (!edited) return text
      const at = Math.floor(edited.at * text.length)
      return text.slice(0, at) + edited.insert + text.slice(at + edited.cut)
    })
}

/** The texts as UTF-8 with some invalid bytes: truncated sequences, lone continuation bytes, bytes that never occur. */
export function invalidUtf8(texts: fc.Arbitrary<string>): fc.Arbitrary<Uint8Array> {
  const badByte = fc.tuple(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.constantFrom(0x80, 0xbf, 0xc0, 0xc3, 0xe2, 0xed, 0xf0, 0xf8, 0xff),
  )
  return fc.tuple(texts, fc.array(badByte, { minLength: 1, maxLength: 3 })).map(([text, badBytes]) => {
    const bytes = Buffer.from(text)
    for (const [at, byte] of badBytes) bytes[Math.floor(at * bytes.length)] = byte
    return bytes
  })
}

/** A place in a tree: `holder[key]`. */
interface Place {
  readonly holder: { [key: string]: Json }
  readonly key: string
}

function* places(holder: Json): Generator<Place> {
  if (holder === null || typeof holder !== 'object') return
  // Indices of arrays are treated like keys of objects.
  const open = holder as { [key: string]: Json }
  for (const key of Object.keys(open)) {
    yield { holder: open, key }
    yield* places(open[key] ?? null)
  }
}

function apply(tree: Json, { place, how, value, key: name }: Edit, holes: string[]): Json {
  const all = [...places({ root: tree })]
  const { holder, key } = all[place % all.length] ?? { holder: {}, key: '' }
  const old = holder[key] ?? null
  const hole = () => `hole-${holes.push(value) - 1}`
  const isRoot = place % all.length === 0
  const isList = Array.isArray(holder)
  const replaced = how === 'replace' ? hole() : how === 'wrap' ? [old] : how === 'repeat' ? [old, old] : old
  if (isRoot) return how === 'remove' || how === 'rename' ? hole() : replaced
  if (how === 'remove') isList ? holder.splice(Number(key), 1) : delete holder[key]
  else if (how === 'rename' && !isList) {
    delete holder[key]
    Object.defineProperty(holder, name, { value: old, enumerable: true, configurable: true, writable: true })
  } else holder[key] = replaced
  return tree
}

/** Replaces the placeholder strings by their texts. */
function fill(text: string, holes: readonly string[]): string {
  return text.replace(/"hole-(\d+)"/g, (_, index) => holes[Number(index)] ?? 'null')
}
