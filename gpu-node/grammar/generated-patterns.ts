import { patternOfFormat, UTC_TIME } from './formats.ts'

const DAYS =
  '(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|(?:02)-(?:0[1-9]|1\\d|2[0-8]))'
const LEAP_YEARS = '(?:\\d\\d[2468][048]|\\d\\d[13579][26]|\\d\\d0[48]|[02468][048]00|[13579][26]00)'
const DATES = `^(?:${LEAP_YEARS}-02-29|\\d{4}-${DAYS})`
const MINUTES = '(?:[01]\\d|2[0-3]):[0-5]\\d'
const SECONDS = `${MINUTES}:[0-5]\\d(?:\\.\\d+)?`
const OFFSET = `([+-]${MINUTES})`

/** Of zod 4, also of its first versions, and what is written for them: texts that they match, and that end. */
const GENERATED = new Map([
  [
    "^(?:[A-Za-z0-9_'+\\-]+\\.)*[A-Za-z0-9_'+\\-]*[A-Za-z0-9_+-]@(?:[A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$",
    patternOfFormat('email'),
  ],
  [
    "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$",
    patternOfFormat('email'),
  ],
  [`${DATES}T(?:${SECONDS}(?:Z))$`, UTC_TIME],
  [`${DATES}T(?:${SECONDS}(?:Z|${OFFSET}))$`, patternOfFormat('date-time')],
  [`${DATES}T(?:${SECONDS}(?:Z)|${MINUTES}(?::[0-5]\\d(?:\\.\\d+)?)?)$`, UTC_TIME],
])

/**
 * For a pattern that a generator of schemas is known to write for a format. Its own takes texts without end, which a small
 * model writes until nothing is left of `max_tokens`.
 */
export function endingPattern(pattern: string): string | undefined {
  return GENERATED.get(pattern)
}
