/** Abbreviations (without their last full stop, lower case) that are usually followed by the rest of their sentence. */
const ABBREVIATIONS = new Set(
  (
    'mr mrs ms dr prof rev fr sr jr st mt ft gen col capt lt sgt maj cmdr adm gov sen rep hon pres supt ' +
    'e.g i.e eg ie cf viz vs v etc approx ca c al ibid op cit resp incl excl esp ' +
    'no nos nr vol vols p pp pg ch chap sec sect fig figs eq eqs ref refs ed eds trans art para par ' +
    'inc ltd co corp bros dept univ assn est min max avg temp tel ext ave blvd rd hwy apt ' +
    'jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun ' +
    'a.m p.m am pm b.c a.d u.s u.k u.n e.u d.c ph.d m.d b.a m.a m.sc b.sc u.s.a ' +
    'z.b bzw usw d.h u.a ggf evtl nr bsp vgl ev p.ej ud uds sra srta dra m mme mlle env'
  ).split(' '),
)
/** Longest first sentence, with some of what follows it. */
const WINDOW = 600
const SEGMENTER = new Intl.Segmenter('en', { granularity: 'sentence' })
const CLOSING = new Set(')]"\'”’»*_`')
const TERMINATORS = new Set('.!?…。！？')
const TERMINATOR = /[.!?…。！？]/

/**
 * The offset after the first sentence of `text` between two offsets (a paragraph), without the white space that
 * follows; `to` when no sentence ends before the paragraph does. A sentence does not end behind an abbreviation, an
 * initial or the number of a list item, nor while emphasis, code, a bracket or a quotation is open.
 */
export function firstSentenceEnd(text: string, from: number, to: number): number {
  const window = text.slice(from, Math.min(to, from + WINDOW))
  if (!TERMINATOR.test(window)) return to
  const open = new OpenMarks()
  for (const { segment, index } of SEGMENTER.segment(window)) {
    open.read(segment)
    const end = index + segment.trimEnd().length
    // The last sentence of the window is the paragraph's last one, or cut off by the window.
    if (index + segment.length >= window.length) break
    if (!open.any && endsSentence(window, end)) return from + end
  }
  return to
}

/** Whether a sentence ends right before the offset `end`: a full stop, and not one of an abbreviation. */
export function endsSentence(text: string, end: number): boolean {
  let at = end
  while (at > 0 && CLOSING.has(text[at - 1] ?? '')) at -= 1
  const terminator = text[at - 1] ?? ''
  if (!TERMINATORS.has(terminator)) return false
  return terminator !== '.' || !isAbbreviated(text, at - 1)
}

/** Whether the full stop at `dot` belongs to an abbreviation, an initial, or the number at the start of a line. */
function isAbbreviated(text: string, dot: number): boolean {
  let from = dot
  while (from > 0 && dot - from < 12 && /[\p{L}\p{N}.]/u.test(text[from - 1] ?? '')) from -= 1
  const word = text.slice(from, dot)
  if (/^\p{L}$/u.test(word)) return true
  if (/^\d+$/.test(word))
    return /(?:^|\n)[^\p{L}\p{N}\n]{0,12}$/u.test(text.slice(Math.max(0, from - 13), from))
  if (/^(?:\p{L}\.)+\p{L}$/u.test(word)) return true
  return ABBREVIATIONS.has(word.toLowerCase())
}

/** Emphasis, code, brackets and quotations that are open, read piece by piece. */
class OpenMarks {
  #bold = false
  #code = false
  #quote = false
  #brackets = 0

  get any(): boolean {
    return this.#bold || this.#code || this.#quote || this.#brackets > 0
  }

  read(piece: string): void {
    for (const [mark] of piece.matchAll(/\*\*|__|`+|["“”()[\]]/g)) {
      if (mark === '**' || mark === '__') this.#bold = !this.#bold
      else if (mark.startsWith('`')) this.#code = !this.#code
      else if (mark === '"') this.#quote = !this.#quote
      else if (mark === '“' || mark === '”') this.#quote = mark === '“'
      else if (mark === '(' || mark === '[') this.#brackets += 1
      else this.#brackets = Math.max(0, this.#brackets - 1)
    }
  }
}
