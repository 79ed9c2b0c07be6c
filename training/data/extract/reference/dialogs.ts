import type { Turn } from '../../conversation.ts'
import type { Rule, Structure } from '../structure.ts'
import { MASK, type Split, splitList } from './lists.ts'
import { hasLength, strip, stripEnd } from './python.ts'

/** A turn as filter_structured.py writes it to parsed.json, with its fields in that order. */
export type ReferenceTurn =
  | {
      prompt: string
      response: string
      original_response: string
      reassembled_response: string
      forkable: true
      streams: string[]
    }
  | { prompt: string; response: string; forkable: false; streams: null }

export interface ParsedTurn {
  turn: ReferenceTurn
  /** What forks, or why nothing does. */
  outcome: { kind: Structure['kind'] } | { rule: Rule }
}

const MIN_PARAGRAPHS = 3
const MIN_STREAMS = 3
const MIN_PARAGRAPH = 20

/** A turn, its response split where it is a list or else paragraphs (filter_structured.py). */
export function parseTurn({ prompt, response }: Turn): ParsedTurn {
  const forkable = (kind: Structure['kind'], split: Split): ParsedTurn => ({
    turn: {
      prompt,
      response: split.response,
      original_response: response,
      reassembled_response: split.reassembled,
      forkable: true,
      streams: split.streams,
    },
    outcome: { kind },
  })
  const list = splitList(response)
  if (list && 'streams' in list) return forkable('list', list)
  const paragraphs = list?.rule === 'too_long' ? list : splitParagraphs(response)
  if ('streams' in paragraphs) return forkable('paragraphs', paragraphs)
  return { turn: { prompt, response, forkable: false, streams: null }, outcome: list ?? paragraphs }
}

/** Paragraphs split behind their first full stop. */
function splitParagraphs(answer: string): Split | { rule: Rule } {
  const stripped = strip(answer)
  const paragraphs = stripped.split('\n\n').filter((paragraph) => strip(paragraph) !== '')
  if (paragraphs.length < MIN_PARAGRAPHS) return { rule: 'paragraphs_too_few' }
  const stop = stripped.includes('。') ? '。' : '. '
  const streams: string[] = []
  const mains = paragraphs.map((paragraph) => {
    const text = strip(paragraph)
    const cut = text.indexOf(stop)
    if (cut === -1) return paragraph
    const after = cut + stop.length
    streams.push(strip(text.slice(after)))
    return text.slice(0, after) + MASK
  })
  if (mains.some((main) => !hasLength(main, MIN_PARAGRAPH))) return { rule: 'paragraphs_short_piece' }
  const response = mains.join('\n\n')
  if (/mrs?\.|dr\./.test(response.toLowerCase())) return { rule: 'paragraphs_abbreviation' }
  if (streams.length === 0 || response.split(MASK).length - 1 < MIN_STREAMS) {
    return { rule: 'paragraphs_too_few_forks' }
  }
  return { response: stripEnd(response), streams, reassembled: answer }
}

/** Text that as_apar_format.py leaves out, by what it contains, in its order. */
const LEFT_OUT: readonly [Rule, RegExp][] = [
  ['cjk', /[\u4e00-\u9fff\u3040-\u309f\uac00-\ud7a3]/],
  ['code_fence', /```/],
  ['maths', /\$\$/],
  ['angle_bracket', /[<>]/],
  ['equals', /=/],
  ['rule_line', /---/],
  ['link', /http/],
]

export function leftOutBy(text: string): Rule | undefined {
  return LEFT_OUT.find(([, pattern]) => pattern.test(text))?.[0]
}

/** Whether get_unstructured.py takes a response: ```|<.*?>|\$|=|---|\d\d+ *[+x*×÷] *\d\d+, in linear time. */
export function isUnstructured(response: string): boolean {
  return /```|[$=]|---/.test(response) || hasTag(response) || hasArithmetic(response)
}

/** `<.*?>`: both brackets on one line. */
function hasTag(text: string): boolean {
  let close = -1
  for (let open = text.indexOf('<'); open !== -1; ) {
    const newline = text.indexOf('\n', open)
    if (close < open) close = text.indexOf('>', open)
    if (close === -1) return false
    if (newline === -1 || close < newline) return true
    open = text.indexOf('<', newline)
  }
  return false
}

/** `\d\d+ *[+x*×÷] *\d\d+`, looked for from its operator; the reference lowers the case of the text before. */
function hasArithmetic(text: string): boolean {
  for (const { index } of text.matchAll(/[+xX*×÷]/g)) {
    let left = index
    while (text[left - 1] === ' ') left -= 1
    let right = index + 1
    while (text[right] === ' ') right += 1
    if (
      TWO_DIGITS_END.test(text.slice(Math.max(0, left - 4), left)) &&
      TWO_DIGITS.test(text.slice(right, right + 4))
    ) {
      return true
    }
  }
  return false
}

const TWO_DIGITS = /^\p{Nd}\p{Nd}/u
const TWO_DIGITS_END = /\p{Nd}\p{Nd}$/u
