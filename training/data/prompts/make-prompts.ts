import { AparError } from '../../../shared/errors.ts'
import { hashText, seededRandom, shuffled } from '../random.ts'
import { NearDuplicates } from './near-duplicates.ts'
import { type Group, type Shape, SLOT, type Templates } from './templates.ts'

export interface MadePrompt {
  /** Of its text: the same prompt has the same id in every run. */
  readonly id: string
  readonly group: string
  readonly shape: Shape
  readonly prompt: string
}

export interface MakePromptsOptions {
  readonly count: number
  readonly seed: number
  /** Prompts that must not be among the made ones or be like them: those of evaluations. */
  readonly avoid?: Iterable<string>
}

export interface MadePrompts {
  readonly prompts: readonly MadePrompt[]
  /** Drawn, but too much like one that was drawn before. */
  readonly nearDuplicates: number
  /** Drawn, but too much like one to avoid. */
  readonly avoided: number
}

/** How many of the prompts ask for a list. */
const LIST_SHARE = 0.6
/** Likeness (NearDuplicates) from which a prompt is left out. */
const TOO_LIKE = 0.6
const TOO_LIKE_AVOIDED = 0.4
/** A slot whose value makes no other question: "Give me 5 tips" and "Give me 7 tips". */
const COUNT_SLOT = 'count'
/** After this many draws without a new prompt, a group has no more. */
const MAX_FAILED_DRAWS = 100

/**
 * Prompts from templates: a shape, a group of that shape by its weight, then a template and the values of its slots
 * from shuffled decks, so that all are used equally often.
 * @throws AparError `invalid_request` when the templates do not give as many prompts that differ.
 */
export function makePrompts(
  templates: Templates,
  { count, seed, avoid = [] }: MakePromptsOptions,
): MadePrompts {
  const random = seededRandom(seed)
  const toAvoid = new NearDuplicates()
  for (const text of avoid) toAvoid.add(withoutNumbers(text))
  const made = new NearDuplicates()
  const prompts: MadePrompt[] = []
  const left = new Set(templates.groups.map((group) => new GroupDraw(group, templates, random)))
  let lists = 0
  let nearDuplicates = 0
  let avoided = 0
  while (prompts.length < count) {
    const wanted = lists < LIST_SHARE * (prompts.length + 1) ? 'list' : 'other'
    const ofShape = [...left].filter(({ group }) => group.shape === wanted)
    const draw = weighted(ofShape.length > 0 ? ofShape : [...left], random)
    if (!draw) {
      const reason = `the templates give ${prompts.length} prompts that differ enough, not ${count}`
      throw new AparError('invalid_request', reason)
    }
    const { prompt, question } = draw.next()
    const isAvoided = toAvoid.likeness(withoutNumbers(question)) >= TOO_LIKE_AVOIDED
    if (isAvoided || made.likeness(question) >= TOO_LIKE) {
      if (isAvoided) avoided++
      else nearDuplicates++
      if (++draw.failed >= MAX_FAILED_DRAWS) left.delete(draw)
      continue
    }
    draw.failed = 0
    made.add(question)
    const { name: group, shape } = draw.group
    if (shape === 'list') lists++
    prompts.push({ id: `${group}/${hashText(prompt).toString(16).padStart(8, '0')}`, group, shape, prompt })
  }
  return { prompts, nearDuplicates, avoided }
}

/** Draws the prompts of a group. */
class GroupDraw {
  readonly group: Group
  /** Draws since the last one that gave a prompt. */
  failed = 0
  readonly #templates: Deck
  readonly #slots: ReadonlyMap<string, Deck>

  constructor(group: Group, { slots }: Templates, random: () => number) {
    this.group = group
    this.#templates = new Deck(group.templates, random)
    const used = new Set(
      group.templates.flatMap((each) => [...each.matchAll(SLOT)].map(([, slot = '']) => slot)),
    )
    this.#slots = new Map([...used].map((slot) => [slot, new Deck(slots.get(slot) ?? [], random)]))
  }

  /** `question`: the prompt without what makes no other question, to be compared with others. */
  next(): { prompt: string; question: string } {
    const template = this.#templates.next()
    const values = new Map<string, string>()
    for (const [, slot = ''] of template.matchAll(SLOT))
      if (!values.has(slot)) values.set(slot, this.#slots.get(slot)?.next() ?? '')
    const fill = (of: (slot: string) => string | undefined) =>
      template.replace(SLOT, (_, slot: string) => of(slot) ?? '')
    const prompt = fill((slot) => values.get(slot))
    return {
      prompt: prompt.charAt(0).toUpperCase() + prompt.slice(1),
      question: fill((slot) => (slot === COUNT_SLOT ? '#' : values.get(slot))),
    }
  }
}

/** Texts in shuffled order, again and again. */
class Deck {
  readonly #texts: readonly string[]
  readonly #random: () => number
  #left: string[] = []

  constructor(texts: readonly string[], random: () => number) {
    this.#texts = texts
    this.#random = random
  }

  next(): string {
    if (this.#left.length === 0) this.#left = shuffled(this.#texts, this.#random)
    return this.#left.pop() ?? ''
  }
}

/** "Name five uses" and "Name 3 uses" are the same to whom avoids them. */
function withoutNumbers(text: string): string {
  return text.replace(/\b(\d+|two|three|four|five|six|seven|eight|nine|ten)\b/gi, '#')
}

function weighted(draws: readonly GroupDraw[], random: () => number): GroupDraw | undefined {
  let at = random() * draws.reduce((sum, { group }) => sum + group.weight, 0)
  for (const draw of draws) {
    at -= draw.group.weight
    if (at < 0) return draw
  }
  return draws.at(-1)
}
