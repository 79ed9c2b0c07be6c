const BYTE = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
const LABEL = '[a-z0-9](-?[a-z0-9]){0,30}'
const SHORT_LABEL = '[a-z0-9](-?[a-z0-9]){0,24}'
/** Without an end a small model writes on, until nothing is left of `max_tokens`. */
const MAILBOX = '[A-Za-z0-9_+-]{1,40}(\\.[A-Za-z0-9_+-]{1,20}){0,2}'
const LEAP_YEAR = '([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)'
const DAY =
  '(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])'
const DATE = `([0-9]{4}-(${DAY})|${LEAP_YEAR}-02-29)`
const HOUR = '([01][0-9]|2[0-3])'
const SECONDS = `${HOUR}:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9}|)`
const TIME = `${SECONDS}(Z|[+-]${HOUR}:[0-5][0-9])`

const OF_PATH = "([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})"
const HOST = '([a-z0-9](-?[a-z0-9]){0,9}\\.){1,3}[a-z]{2,10}'
/** Of the web, at most 445 characters: for addresses that have to have an end, as pydantic's HttpUrl. */
const WEB_ADDRESS = `^(https?://${HOST}(:[0-9]{1,4}|)(/${OF_PATH}{0,80}|)(\\?${OF_PATH}{0,40}|))$`

/** Patterns for the formats of JSON Schema of which the grammar engine takes invalid values, too. */
const PATTERNS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  'date-time': `${DATE}T${TIME}`,
  ipv4: `${BYTE}(\\.${BYTE}){3}`,
  hostname: `${LABEL}(\\.${LABEL}){0,3}`,
  email: `${MAILBOX}@(${SHORT_LABEL}\\.){1,3}[a-z]{2,10}`,
}
/** Of the grammar engine itself. */
const KNOWN = [
  ...['ipv6', 'uuid', 'duration', 'uri', 'uri-reference', 'uri-template'],
  ...['json-pointer', 'relative-json-pointer'],
]

const PATTERN_OF = new Map(Object.entries(PATTERNS).map(([format, pattern]) => [format, `^(${pattern})$`]))
/** Of a date and time without an offset. */
export const UTC_TIME = `^(${DATE}T${SECONDS}Z)$`
const OWN = new Set([...PATTERN_OF.values(), UTC_TIME, WEB_ADDRESS])

export function patternOfFormat(format: 'email' | 'date-time'): string {
  return `^(${PATTERNS[format]})$`
}

/** Whether a pattern is one of a format. */
export function isOfFormat(pattern: string): boolean {
  return OWN.has(pattern)
}

/** The keywords that stand for `format` of a string; none for one that JSON Schema does not know. `ends`: has a length. */
export function keywordsOf(format: string, ends: boolean): { format?: string; pattern?: string } {
  if (format === 'uri' && ends) return { pattern: WEB_ADDRESS }
  const pattern = PATTERN_OF.get(format)
  if (pattern !== undefined) return { pattern }
  return KNOWN.includes(format) ? { format } : {}
}
