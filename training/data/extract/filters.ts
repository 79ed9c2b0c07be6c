import type { Profile, Switches, Treatment } from './profile.ts'
import type { Rule } from './structure.ts'

/** Special tokens written as text: a tokenizer could encode them as what they name. */
const MARKER = /\[(?:Fork|Child|SplitMask|SplitSop|\/?INST)\]|<\/?s>|<unk>|<\|\w{1,40}\|>/

type TextSwitch = {
  [Name in keyof Switches]: Switches[Name] extends Treatment ? Name : never
}[keyof Switches]

const STEP_HEADING = /^(?:#{1,6}[ \t]+(?:\*\*)?|\*\*)Step \d/m
/** How lines of code begin or end; list items are no code. */
const CODE = [
  String.raw`import \w|from \w+(?:\.\w+)* import|#include\b|using namespace|public |private `,
  String.raw`def \w+\(|class \w+[(:]|function \w*\(|(?:var|let|const) \w+ =|[\w.[\]]+ = \S`,
  String.raw`(?:if|for|while) ?\(.*\) ?\{|elif |return\b.*[;)]$|[\w.]+\(.*\)$`,
  String.raw`<\/?\w+[^<>\n]{0,80}>$|(?!\d+[.)][ \t]|[-*+•][ \t]|.*[a-z] [a-z]+ [a-z]+ [a-z]).*[;{}]$`,
]
const CODE_LINE = new RegExp(String.raw`^[ \t]*(?:${CODE.join('|')})`, 'gm')
const MIN_CODE_LINES = 3
const FENCED = /```[\s\S]*?(?:```|$)/g
/** A short line with an equals sign and no word of four letters. */
const EQUATION_LINE = /^(?=[^\n]{1,80}$)(?![^\n]*\p{L}{4})[^=\n]*=[^\n]*$/gmu
const MIN_EQUATION_LINES = 2

/** Kinds of text that a profile may refuse before the search for structure, in the order in which they are tried. */
const FILTERS: readonly { rule: Rule; name: TextSwitch; pattern: RegExp; least?: number }[] = [
  { rule: 'cjk', name: 'cjk', pattern: /[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]/ },
  { rule: 'code_fence', name: 'codeFence', pattern: /```/ },
  { rule: 'code', name: 'bareCode', pattern: CODE_LINE, least: MIN_CODE_LINES },
  { rule: 'maths', name: 'maths', pattern: /\$\$/ },
  { rule: 'equations', name: 'equations', pattern: /\\\[|\\begin\{/ },
  { rule: 'equations', name: 'equations', pattern: EQUATION_LINE, least: MIN_EQUATION_LINES },
  { rule: 'steps', name: 'steps', pattern: STEP_HEADING },
  { rule: 'angle_bracket', name: 'angleBracket', pattern: /[<>]/ },
  { rule: 'equals', name: 'equals', pattern: /=/ },
  { rule: 'rule_line', name: 'ruleLine', pattern: /---/ },
  { rule: 'link', name: 'link', pattern: /http/ },
]

export function hasMarker(text: string): boolean {
  return MARKER.test(text)
}

/** The first rule by which a profile refuses a text for what it contains, or undefined. */
export function refusedBy(text: string, profile: Profile): { rule: Rule; keep: boolean } | undefined {
  for (const { rule, name, pattern, least } of FILTERS) {
    if (profile[name] === 'allow') continue
    const found =
      least === undefined ? pattern.test(text) : countOf(pattern, text.replace(FENCED, '')) >= least
    if (found) return { rule, keep: profile[name] === 'keep' }
  }
  return undefined
}

function countOf(pattern: RegExp, text: string): number {
  return text.match(pattern)?.length ?? 0
}
