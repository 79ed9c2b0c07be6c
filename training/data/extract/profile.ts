import { AparError } from '../../../shared/errors.ts'

/** What happens to an answer with some kind of text: it may fork, it teaches when not to fork, or it is left out. */
export type Treatment = 'allow' | 'keep' | 'drop'

/**
 * The switches of the rules: meaning, and value in the profile `default` and in the profile `reference`. The
 * reference's values describe what its scripts do; they cannot be changed, because that profile equals the scripts
 * byte for byte (docs/adr/0040).
 */
export const SWITCHES = {
  lists: {
    meaning: 'numbered lists whose items have a title and a detail fork',
    default: true,
    reference: true,
  },
  bullets: { meaning: 'lists with -, *, + or • fork like numbered ones', default: true, reference: false },
  headings: {
    meaning: 'sections under # headings or bold lines fork behind their heading',
    default: true,
    reference: false,
  },
  paragraphs: {
    meaning: 'without any of these, paragraphs fork behind their first sentence',
    default: true,
    reference: true,
  },
  sentenceItems: {
    meaning: 'items without a title fork behind their first sentence',
    default: true,
    reference: false,
  },
  maxDepth: { meaning: 'most branches on a path, the root included', default: 4, reference: 2 },
  minItems: {
    meaning: 'fewest forks of a list, of a group of sections, or of paragraphs',
    default: 3,
    reference: 3,
  },
  minDetail: { meaning: 'fewest characters of a detail', default: 10, reference: 10 },
  minPiece: {
    meaning: 'fewest characters of a first sentence, and of the rest, of a paragraph or an item',
    default: 20,
    reference: 20,
  },
  keepWhiteSpace: { meaning: 'the parts are the answer byte for byte', default: true, reference: false },
  trimCutOff: {
    meaning: 'an answer that did not end by itself ends before it repeats itself, instead of being left out',
    default: false,
    reference: false,
  },
  repeats: {
    meaning: 'titles or details of one branch that are the same',
    default: 'drop',
    reference: 'allow',
  },
  cjk: { meaning: 'Chinese, Japanese or Korean text', default: 'allow', reference: 'drop' },
  codeFence: {
    meaning: '``` (allow: outside of everything that forks)',
    default: 'allow',
    reference: 'drop',
  },
  maths: {
    meaning: 'a displayed formula: $$',
    default: 'keep',
    reference: 'drop',
  },
  bareCode: { meaning: 'three lines of code or more without a fence', default: 'keep', reference: 'allow' },
  equations: {
    meaning: 'two lines or more that are equations, \\[ or \\begin{',
    default: 'keep',
    reference: 'allow',
  },
  steps: {
    meaning: 'a heading "Step N": each step needs the one before',
    default: 'keep',
    reference: 'allow',
  },
  angleBracket: { meaning: '< or >', default: 'allow', reference: 'drop' },
  equals: { meaning: '=', default: 'allow', reference: 'drop' },
  ruleLine: { meaning: '---', default: 'allow', reference: 'drop' },
  link: { meaning: 'http', default: 'allow', reference: 'drop' },
} as const satisfies Record<string, { meaning: string; default: Value; reference: Value }>

type Value = boolean | number | Treatment
type Widened<T> = T extends boolean ? boolean : T extends number ? number : Treatment

export type Switches = { [Name in keyof typeof SWITCHES]: Widened<(typeof SWITCHES)[Name]['default']> }
export type ProfileName = 'default' | 'reference'
export type Profile = Readonly<Switches> & { readonly name: ProfileName }

function valuesOf(name: ProfileName): Profile {
  const values = Object.entries(SWITCHES).map(([key, entry]) => [key, entry[name]])
  return { name, ...(Object.fromEntries(values) as Switches) }
}

export const PROFILES: Readonly<Record<ProfileName, Profile>> = {
  default: valuesOf('default'),
  reference: valuesOf('reference'),
}

/** The profile `default` with some switches changed. @throws AparError when a depth or a count is not usable. */
export function customProfile(changes: Partial<Omit<Switches, 'keepWhiteSpace'>>): Profile {
  for (const [name, value] of Object.entries(changes)) {
    if (typeof value === 'number' && !(Number.isInteger(value) && value >= 1)) {
      throw new AparError('invalid_request', `rule switch ${name}: expected a whole number from 1`)
    }
  }
  return { ...PROFILES.default, ...changes }
}

/**
 * The profile `default` with switches changed by texts `NAME=VALUE`.
 * @throws AparError that names the switch, and what it may be.
 */
export function profileOf(changes: readonly string[]): Profile {
  const { keepWhiteSpace: _fixed, ...switches } = SWITCHES
  const entries = changes.map((change): [string, Value] => {
    const [, name = '', text = ''] = /^(\w+)=(\w+)$/.exec(change) ?? []
    const known = Object.entries(switches).find(([key]) => key === name)?.[1].default
    if (known === undefined) {
      const names = Object.keys(switches).join(', ')
      throw new AparError('invalid_request', `rule ${change}: expected NAME=VALUE with a name of ${names}`)
    }
    return [name, switchValue(change, text, known)]
  })
  return customProfile(Object.fromEntries(entries))
}

const TREATMENTS: readonly Treatment[] = ['allow', 'keep', 'drop']

function switchValue(change: string, text: string, known: Value): Value {
  const choices = typeof known === 'boolean' ? ['true', 'false'] : TREATMENTS
  if (typeof known === 'number') {
    if (/^\d{1,9}$/.test(text)) return Number(text)
    throw new AparError('invalid_request', `rule ${change}: expected a whole number`)
  }
  const chosen = choices.find((choice) => choice === text)
  if (chosen === undefined)
    throw new AparError('invalid_request', `rule ${change}: expected ${choices.join(', ')}`)
  return typeof known === 'boolean' ? chosen === 'true' : (chosen as Treatment)
}

/** The switches as a Markdown table, for docs/data-rules.md. */
export function switchTable(): string {
  const cell = (text: string) => text.replaceAll('|', '\\|')
  const rows = Object.entries(SWITCHES).map(
    ([name, { meaning, ...values }]) =>
      `| ${name} | ${cell(meaning)} | ${values.default} | ${values.reference} |`,
  )
  return ['| switch | meaning | default | reference |', '| --- | --- | --- | --- |', ...rows].join('\n')
}
