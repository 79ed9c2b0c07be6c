/** Of texts, in characters. */
export interface Lengths {
  readonly least: number
  readonly most: number
}

interface Item extends Lengths {
  /** Whether it is one character, any number of times. */
  readonly isChar: boolean
  readonly times: Lengths
  /** Where the number of times is written. */
  readonly from: number
  readonly to: number
}

const ONCE: Lengths = { least: 1, most: 1 }
const ONE_CHAR = /\\(?:[dDwWsSfnrtv]|[pP]\{[^}]*\}|x[\da-fA-F]{2}|u(?![dD][89a-fA-F])[\da-fA-F]{4}|[^\w\s])/uy
const CLASS = /\[(?:\\.|[^\\\]])*\]/uy
const OTHER_CHAR = /[^\\^$*+?()[\]{}|]/uy
const OPENING = /\((?:\?:|\?<[A-Za-z_]\w*>|(?!\?))/uy
const TIMES = /(?:[*+?]|\{(\d+)(,?)(\d*)\})\??/uy

/**
 * A pattern that has the texts of another one (all of which it matches) that have these lengths: the same where all have, or
 * with another number of times of its only part that varies, one character. undefined where that is not so, where there are
 * no such texts, and for what is no plain pattern.
 */
export function patternWithLengths(pattern: string, { least, most }: Lengths): string | undefined {
  const parser = new Parser(pattern)
  const alternatives = parser.alternatives()
  if (!alternatives || !parser.isAtEnd) return undefined
  const all = either(alternatives.map(inTurn))
  if (all.least >= least && all.most <= most) return pattern
  const [items = []] = alternatives
  const [varying, another] = items.filter((item) => item.least !== item.most)
  if (alternatives.length > 1 || !varying?.isChar || another) return undefined
  const others = inTurn(items.filter((item) => item !== varying)).least
  const times = {
    least: Math.max(varying.times.least, least - others),
    most: Math.min(varying.times.most, most - others),
  }
  if (times.least > times.most) return undefined
  const written = `{${times.least},${times.most === Number.POSITIVE_INFINITY ? '' : times.most}}`
  return pattern.slice(0, varying.from) + written + pattern.slice(varying.to)
}

function inTurn(items: readonly Lengths[]): Lengths {
  const sum = (bound: keyof Lengths) => items.reduce((total, item) => total + item[bound], 0)
  return { least: sum('least'), most: sum('most') }
}

function either(choices: readonly Lengths[]): Lengths {
  return {
    least: Math.min(...choices.map(({ least }) => least)),
    most: Math.max(...choices.map(({ most }) => most)),
  }
}

class Parser {
  readonly #pattern: string
  #at = 0

  constructor(pattern: string) {
    this.#pattern = pattern
  }

  get isAtEnd(): boolean {
    return this.#at === this.#pattern.length
  }

  /** undefined for what is not known here. */
  alternatives(isGroup = false): Item[][] | undefined {
    const alternatives: Item[][] = []
    do {
      const items: Item[] = []
      if (!isGroup) this.#take(/\^/y)
      while (!this.isAtEnd && !/[|)]/.test(this.#next) && !(this.#next === '$' && !isGroup)) {
        const item = this.#item()
        if (!item) return undefined
        items.push(item)
      }
      if (!isGroup) this.#take(/\$/y)
      alternatives.push(items)
    } while (this.#take(/\|/y))
    return alternatives
  }

  #item(): Item | undefined {
    const isChar = [ONE_CHAR, CLASS, OTHER_CHAR].some((char) => this.#take(char))
    const one = isChar ? ONCE : this.#group()
    if (!one) return undefined
    const from = this.#at
    const times = timesOf(this.#take(TIMES))
    if (times.least > times.most) return undefined
    const most = one.most === 0 || times.most === 0 ? 0 : one.most * times.most
    return { least: one.least * times.least, most, isChar, times, from, to: this.#at }
  }

  #group(): Lengths | undefined {
    if (!this.#take(OPENING)) return undefined
    const alternatives = this.alternatives(true)
    return alternatives && this.#take(/\)/y) ? either(alternatives.map(inTurn)) : undefined
  }

  get #next(): string {
    return this.#pattern[this.#at] ?? ''
  }

  #take(expression: RegExp): RegExpExecArray | undefined {
    expression.lastIndex = this.#at
    const found = expression.exec(this.#pattern) ?? undefined
    if (found) this.#at = expression.lastIndex
    return found
  }
}

function timesOf(written: RegExpExecArray | undefined): Lengths {
  if (!written) return ONCE
  const [text, least, comma, most] = written
  if (least !== undefined) {
    const open = most || (comma ? Number.POSITIVE_INFINITY : least)
    return { least: Number(least), most: Number(open) }
  }
  return {
    least: text.startsWith('+') ? 1 : 0,
    most: text.startsWith('?') ? 1 : Number.POSITIVE_INFINITY,
  }
}
