import type { Profile, Switches, Treatment } from './profile.ts'
import type { Rule } from './structure.ts'

/** Special tokens written as text: a tokenizer could encode them as what they name. */
const MARKER = /\[(?:Fork|Child|SplitMask|SplitSop|\/?INST)\]|<\/?s>|<unk>|<\|\w{1,40}\|>/

type TextSwitch = {
  [Name in keyof Switches]: Switches[Name] extends Treatment ? Name : never
}[keyof Switches]

/** Kinds of text that a profile may refuse before the search for structure, in the order in which they are tried. */
const FILTERS: readonly { rule: Rule; name: TextSwitch; pattern: RegExp }[] = [
  { rule: 'cjk', name: 'cjk', pattern: /[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]/ },
  { rule: 'code_fence', name: 'codeFence', pattern: /```/ },
  { rule: 'maths', name: 'maths', pattern: /\$\$|\\\[|\\begin\{/ },
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
  for (const { rule, name, pattern } of FILTERS) {
    if (profile[name] !== 'allow' && pattern.test(text)) return { rule, keep: profile[name] === 'keep' }
  }
  return undefined
}
